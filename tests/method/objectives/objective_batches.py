"""Batches for every objective, and the loss and gradient of one."""

import torch

from difference_feedback.method.objectives import OBJECTIVES, Clip, surrogate_loss

NAMES = tuple(sorted(OBJECTIVES))
WIDE = {
    name: Clip(0.2, 0.3) if isinstance(OBJECTIVES[name].settings, Clip) else OBJECTIVES[name].settings for name in NAMES
}
"""Settings at which a batch below has both clipped and unclipped tokens. GSPO's own range would clip nearly all."""

CASES = [
    (name, norm)
    for name in NAMES
    for norm in ("tokens", "weights")
    if norm == "tokens" or name not in ("dr_grpo", "dpo")
]
"""Every objective with every way of counting tokens that it has."""


def make_batch(name, seed=0, rows=4, length=6, spread=0.3):
    """Mixed lengths, hard weights, and log-probs far enough from the old that some ratios are clipped on each side."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    old = -rand(rows, length) - 0.1
    logps = old + spread * randn(rows, length)
    lengths = torch.randint(1, length + 1, (rows,), generator=generator)
    batch = {
        "logps": logps,
        "old_logps": old,
        "advantages": randn(rows),
        "weights": (rand(rows, length) < 0.5).double(),
        "mask": (torch.arange(length) < lengths[:, None]).double(),
    }
    if name == "ppo":  # a critic's advantages, one for each token
        batch["advantages"] = randn(rows, length)
    if name == "dr_grpo":
        batch["max_tokens"] = 7
    if name == "dpo":  # a wrong answer, then its repair
        batch["advantages"] = torch.where(torch.arange(rows) % 2 == 0, -1, 1) * batch["advantages"].abs()
        batch["pairs"] = 10 + torch.arange(rows) // 2
    return batch


def options(name, settings):
    """Settings as the arguments of `surrogate_loss`."""
    if name == "dpo":
        return {"beta": settings[0]}
    if name == "sapo":
        return {"tau_positive": settings[0], "tau_negative": settings[1]}
    return {"clip_low": settings[0], "clip_high": settings[1]}


def loss_and_gradient(name, batch, **more):
    """Of `surrogate_loss` at `WIDE[name]`, unless `more` has other settings."""
    logps = batch["logps"].detach().clone().requires_grad_()
    loss = surrogate_loss(**{**batch, "logps": logps}, objective=name, **{**options(name, WIDE[name]), **more})
    loss.backward()
    return loss.detach(), logps.grad


def differentiate(function, batch):
    """Value and gradient at `logps` of a function of a batch."""
    logps = batch["logps"].detach().clone().requires_grad_()
    value = function({**batch, "logps": logps})
    value.backward()
    return value.detach(), logps.grad


def by_row(batch, change):
    """The batch with `change` applied to everything that has rows."""
    return {key: change(key, value) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
