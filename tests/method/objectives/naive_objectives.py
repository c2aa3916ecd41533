"""Every objective in loops, from its own paper, one token at a time. Slow, and plain enough to check by eye.

Each takes a batch (see `objective_batches`), the settings, and `frozen`: the log-probabilities under stop-gradients,
which are the current ones unless a finite difference holds them. `weights` of None is the method without weights.
"""

import math

import torch


def tokens(batch):
    """`(row, position)` of every completion token."""
    return [tuple(place) for place in batch["mask"].nonzero().tolist()]


def weighted_advantage(batch, i, t):
    advantage = batch["advantages"][i] if batch["advantages"].dim() == 1 else batch["advantages"][i, t]
    return advantage if batch["weights"] is None else batch["weights"][i, t] * advantage


def ppo_term(batch, i, t, settings, frozen):
    low, high = settings
    ratio, advantage = torch.exp(batch["logps"][i, t] - batch["old_logps"][i, t]), weighted_advantage(batch, i, t)
    return min(ratio * advantage, torch.clamp(ratio, 1 - low, 1 + high) * advantage)


def gspo_term(batch, i, t, settings, frozen):
    low, high = settings
    completion = batch["mask"][i].bool()
    sequence = torch.exp((frozen[i] - batch["old_logps"][i])[completion].mean())
    ratio, advantage = sequence * torch.exp(batch["logps"][i, t] - frozen[i, t]), weighted_advantage(batch, i, t)
    return min(ratio * advantage, torch.clamp(ratio, 1 - low, 1 + high) * advantage)


def sapo_term(batch, i, t, settings, frozen):
    advantage = weighted_advantage(batch, i, t)
    tau = settings[0] if advantage > 0 else settings[1]
    ratio = torch.exp(batch["logps"][i, t] - batch["old_logps"][i, t])
    return 4 / tau / (1 + torch.exp(-tau * (ratio - 1))) * advantage


def cispo_term(batch, i, t, settings, frozen):
    low, high = settings
    ratio = math.exp(frozen[i, t] - batch["old_logps"][i, t])
    return min(max(ratio, 1 - low), 1 + high) * weighted_advantage(batch, i, t) * batch["logps"][i, t]


TERM = {
    **dict.fromkeys(("grpo", "ppo", "dapo", "dr_grpo"), ppo_term),
    "gspo": gspo_term,
    "sapo": sapo_term,
    "cispo": cispo_term,
}


def divisor(batch, places, length_norm):
    """Divisor of the sum over these tokens: their number, or the sum of their weights."""
    if length_norm == "tokens":
        return len(places)
    weight = sum(batch["weights"][place].item() for place in places)
    return weight if weight > 0 else 1.0


def naive_loss(name, batch, settings, length_norm="tokens", frozen=None):
    """The loss of objective `name`, a scalar."""
    if name == "dpo":
        return naive_dpo(batch, settings)
    frozen = batch["logps"].detach() if frozen is None else frozen
    rows = {}
    for i, t in tokens(batch):
        rows.setdefault(i, []).append((i, t))
    if not rows:
        return 0.0 * batch["logps"].sum()
    term = {(i, t): TERM[name](batch, i, t, settings, frozen) for i, t in tokens(batch)}
    if name in ("ppo", "dapo", "cispo"):
        return -sum(term.values()) / divisor(batch, list(term), length_norm)
    if name == "dr_grpo":
        return -sum(term.values()) / batch["max_tokens"] / len(rows)
    means = [sum(term[place] for place in places) / divisor(batch, places, length_norm) for places in rows.values()]
    return -sum(means) / len(rows)


def naive_dpo(batch, settings):
    """`-log σ(β (preferred log-ratio - rejected log-ratio))`, each a sum over weighted tokens, the mean over pairs."""
    (beta,) = settings
    losses = []
    for number in sorted({batch["pairs"][i].item() for i, _ in tokens(batch)}):
        margin = 0.0
        for i, t in tokens(batch):
            if batch["pairs"][i] == number:
                sign = 1 if batch["advantages"][i] > 0 else -1
                weight = 1.0 if batch["weights"] is None else batch["weights"][i, t]
                margin = margin + sign * weight * (batch["logps"][i, t] - batch["old_logps"][i, t])
        losses.append(torch.log1p(torch.exp(-beta * margin)))
    return sum(losses) / len(losses)


def naive_gspo_sequence(batch, settings):
    """GSPO as its paper writes it first, with one ratio a sequence and its gradient going into every token."""
    low, high = settings
    total = 0.0
    for i in range(len(batch["logps"])):
        completion = batch["mask"][i].bool()
        sequence = torch.exp((batch["logps"][i] - batch["old_logps"][i])[completion].mean())
        advantage = batch["advantages"][i]
        total = total + min(sequence * advantage, torch.clamp(sequence, 1 - low, 1 + high) * advantage)
    return -total / len(batch["logps"])
