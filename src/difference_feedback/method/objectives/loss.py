"""The weighted surrogate loss: one set of weights and guards around every objective. [DF, Eqs. 10, 22-28]"""

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
    are not part of it: they stay unweighted (`kl_loss`). Half-precision input is computed in float32.

    Settings left at None are those of the objective's own paper, see `OBJECTIVES`.

    Args:
        logps: `log π_θ(o_t)` under the policy's own prompt, `(B, T)`, differentiable.
        old_logps: `log π_old(o_t)`, `(B, T)`, for repairs as `anchor_logps` has it; for "dpo" `log π_ref(o_t)`. No
            gradient goes into it.
        advantages: `(B,)` for groups, `(B, T)` from a critic; not weighted yet. For "dpo" `(B,)`, above 0 for the
            preferred answer and below 0 for the rejected one.
        weights: `w`, `(B, T)`, at least 0. For DF-PPO, `ppo_weights` of them.
        mask: `(B, T)`, 1 at completion tokens (the end-of-sequence token included), 0 at padding. A row of nothing but
            padding changes nothing, not even the mean over rows.
        objective: a name in `OBJECTIVES`.
        clip_low, clip_high: the ratio is clipped to `[1 - clip_low, 1 + clip_high]`.
        length_norm: what divides a sum over tokens (our decision). "tokens": the number of completion tokens, as in the
            papers; a sparse mask then also means a small gradient, so that an answer with one slip moves the policy
            less than one that is wrong throughout. "weights": the sum of their weights, which for a hard mask is the
            number of weighted tokens; every answer then pulls alike, however few its edits. A sum of 0 gives 0.
        tau_positive, tau_negative: temperatures of "sapo".
        beta: of "dpo".
        max_tokens: for "dr_grpo", the constant in place of an answer's length; usually the generation limit.
        pairs: for "dpo", integers `(B,)`: rows that share a number are a pair.
        count: divisor of the whole batch when this is a part of it, a rank's or a micro-batch's; see `loss_count`.

    Raises:
        DataError: shapes that do not fit, or rows that are no pairs.
        ConfigError: an unknown objective or length_norm, an option that the objective does not have, or lacks, or a
            value out of range.
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
    # Both `where` are needed: the first keeps gradients out of inactive tokens, also NaN ones that the chain rule would
    # make of 0 * inf; the second keeps those tokens' values out of the sum.
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
        found = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise DataError(f"shapes are {found}; all must be the same (B, T)")
