"""The weighted surrogate loss: weights, padding and numerical safety are the same for all. [DF, Eqs. 10, 22-28]"""

import torch
from torch import Tensor

from difference_feedback.errors import DataError
from difference_feedback.method.objectives.preference import preference_signs
from difference_feedback.method.objectives.reduction import LengthNorm, check_reduction, loss_count, quotient, total
from difference_feedback.method.objectives.registry import find_objective, resolve_settings
from difference_feedback.method.weighting import gate_advantages


def surrogate_loss(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    weights: Tensor,
    mask: Tensor,
    objective: str = "grpo",
    clip_low: float | None = None,
    clip_high: float | None = None,
    length_norm: LengthNorm = "tokens",
    *,
    tau_positive: float | None = None,
    tau_negative: float | None = None,
    beta: float | None = None,
    max_tokens: float | None = None,
    pairs: Tensor | None = None,
    count: Tensor | float | None = None,
) -> Tensor:
    """The weighted surrogate loss `-J`, a scalar to minimise. [DF, Eqs. 10, 22-23, 28]

    The gradient at a token of weight 0 is exactly 0, whatever its log-probabilities and advantage. KL and entropy terms
    are not included; they have no weights (`kl_loss`). Half-precision input is computed in float32.

    A setting of None has the value of the objective's own paper; see `OBJECTIVES`.

    Args:
        logps: `log π_θ(o_t)` under the policy's own prompt, `(B, T)`, differentiable.
        old_logps: `log π_old(o_t)`, `(B, T)`, for repairs the result of `anchor_logps`; for "dpo" `log π_ref(o_t)`. It
            gets no gradient.
        advantages: `(B,)` for groups, `(B, T)` from a critic, without weights. For "dpo" `(B,)`, above 0 for the
            preferred answer and below 0 for the rejected one.
        weights: `w`, `(B, T)`, at least 0. For DF-PPO, the result of `ppo_weights`.
        mask: `(B, T)`, 1 at completion tokens (the end-of-sequence token included), 0 at padding. A row of padding
            alone has no effect, not even on the mean over rows.
        objective: a name in `OBJECTIVES`.
        clip_low: the ratio is clipped to `[1 - clip_low, 1 + clip_high]`.
        clip_high: see `clip_low`.
        length_norm: the divisor of a sum over tokens (our decision). "tokens": the number of completion tokens, as in
            the papers. A sparse mask then gives a small gradient, so an answer with one error moves the policy less
            than one that is wrong throughout. "weights": the sum of the weights, which for a hard mask is the number of
            marked tokens. Every answer then moves the policy alike, however few its edits. A sum of 0 gives 0.
        tau_positive: temperature of "sapo" where the advantage is above 0.
        tau_negative: the same elsewhere.
        beta: of "dpo".
        max_tokens: for "dr_grpo", the constant that replaces an answer's length, usually the generation limit.
        pairs: for "dpo", integers `(B,)`: two rows with the same number are a pair.
        count: the divisor of the whole batch if this is only a part of it, such as a rank or a micro-batch; see
            `loss_count`.

    Raises:
        DataError: the shapes do not match, or the rows are not pairs.
        ConfigError: objective or length_norm is unknown, an option does not belong to the objective or is missing, or a
            value is out of range.
    """
    _check_shapes(logps, old_logps, weights, mask)
    chosen = find_objective(objective)
    settings = resolve_settings(
        objective,
        {
            "clip_low": clip_low,
            "clip_high": clip_high,
            "tau_positive": tau_positive,
            "tau_negative": tau_negative,
            "beta": beta,
        },
    )
    check_reduction(objective, length_norm, max_tokens, pairs)

    dtype = torch.promote_types(logps.dtype, torch.float32)
    mask, weights = mask.bool(), weights.to(dtype)
    if pairs is not None:
        advantages = preference_signs(advantages, mask, pairs)
    weighted = gate_advantages(advantages.to(dtype), weights)
    active = mask & (weighted != 0)
    # Both `where` are needed. The first keeps gradients out of inactive tokens, also the NaN that the chain rule makes
    # of 0 * inf. The second keeps those tokens' values out of the sum.
    new = torch.where(mask, logps.to(dtype), 0.0)
    new = torch.where(active, new, new.detach())
    log_ratio = new - torch.where(mask, old_logps.detach().to(dtype), 0.0)
    extra = {"logps": new} if chosen.reads_logps else {}
    surrogate = chosen.surrogate(log_ratio, weighted, mask, settings, **extra)
    surrogate = torch.where(active, surrogate, 0.0)

    if count is None:
        count = loss_count(weights, mask, objective, length_norm, max_tokens, pairs)
    divisor = torch.as_tensor(count, dtype=dtype, device=surrogate.device)
    return -quotient(total(surrogate, weights, mask, objective, length_norm, pairs), divisor)


def _check_shapes(logps: Tensor, old_logps: Tensor, weights: Tensor, mask: Tensor) -> None:
    shapes = {"logps": logps.shape, "old_logps": old_logps.shape, "weights": weights.shape, "mask": mask.shape}
    if logps.dim() != 2 or len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise DataError(f"the shapes differ: {listed}; give all of them the same (B, T)")
