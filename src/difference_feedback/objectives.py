"""Surrogate losses, gated token by token: the specification that the hosts are tested against. [DF, Eqs. 10, 22-28]

An objective is a function of log-ratios and gated advantages, and the reduction its paper declares. To add one, write
that function and decorate it:

    @register("mine", reduction="sequence")
    def mine(log_ratio, advantages, mask, clip): ...

It must be 0 where the gated advantage is 0, and one token's advantage must not change another's value. The gate,
padding, and safety against `0 * inf` are done around it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.gating import gate_advantages

Reduction = Literal["sequence", "batch"]
LengthNorm = Literal["tokens", "gated"]

# Importance ratios beyond e**40 mean that something broke long ago. The bound keeps exp() finite, also in float32 and
# times an advantage, so that a clipped token's gradient is 0 and not 0 * inf.
_MAX_LOG_RATIO = 40.0


class Clip(NamedTuple):
    """Clipping range of the importance ratio: `[1 - low, 1 + high]`."""

    low: float
    high: float


Surrogate = Callable[[Tensor, Tensor, Tensor, Clip], Tensor]


@dataclass(frozen=True)
class Objective:
    """A per-token surrogate `(B, T)`, to be maximised, and how its paper averages it.

    "sequence": mean over a row's tokens, then over rows (`1/|G'| Σ_i 1/|o_i| Σ_t`). "batch": mean over all tokens.
    """

    surrogate: Surrogate
    reduction: Reduction


OBJECTIVES: dict[str, Objective] = {}


def register(name: str, reduction: Reduction) -> Callable[[Surrogate], Surrogate]:
    """Make a surrogate known under `name`. The function itself is returned unchanged."""

    def add(surrogate: Surrogate) -> Surrogate:
        OBJECTIVES[name] = Objective(surrogate, reduction)
        return surrogate

    return add


@register("grpo", reduction="sequence")
@register("ppo", reduction="batch")
def token_ratio(log_ratio: Tensor, advantages: Tensor, mask: Tensor, clip: Clip) -> Tensor:
    """`min(ρ_t Â_t, clip(ρ_t) Â_t)`, `ρ_t` the token's importance ratio. [DF, Eqs. 22, 28; PPO; GRPO]"""
    return _clipped(_bounded_exp(log_ratio), advantages, clip)


@register("gspo", reduction="sequence")
def sequence_ratio(log_ratio: Tensor, advantages: Tensor, mask: Tensor, clip: Clip) -> Tensor:
    """The same with `s_t = sg[s] ρ_t / sg[ρ_t]`, where `s = (π(o)/π_old(o))^(1/|o|)`. [DF, Eq. 23; GSPO-token]

    `s` is the likelihood ratio of the whole sequence: every completion token counts in it, gated or not. Its value
    reaches all tokens and its gradient none, so that only a token's own advantage decides about its gradient.
    """
    fixed = log_ratio.detach()
    sequence = _bounded_exp(fixed.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1))
    return _clipped(sequence * torch.exp(log_ratio - fixed), advantages, clip)


def surrogate_loss(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    weights: Tensor,
    mask: Tensor,
    objective: str = "grpo",
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    length_norm: LengthNorm = "tokens",
) -> Tensor:
    """The gated surrogate loss `-J`, a scalar to minimise. [DF, Eqs. 22-23, 28]

    The gradient at a token of weight 0 is exactly 0, whatever its log-probabilities and advantage. KL and entropy terms
    are not part of it: they stay ungated. Half-precision input is computed in float32.

    Args:
        logps: `log π_θ(o_t)` under the policy's own prompt, `(B, T)`, differentiable.
        old_logps: `log π_old(o_t)`, `(B, T)`; no gradient goes into it.
        advantages: `(B,)` for groups, `(B, T)` from a critic; not gated yet.
        weights: `w`, `(B, T)`, at least 0. For DF-PPO, `ppo_weights` of them.
        mask: `(B, T)`, 1 at completion tokens (the end-of-sequence token included), 0 at padding. A row of nothing but
            padding changes nothing, not even the mean over rows.
        objective: a name in `OBJECTIVES`.
        clip_low, clip_high: the ratio is clipped to `[1 - clip_low, 1 + clip_high]`.
        length_norm: what divides a sum over tokens (our decision). "tokens": the number of completion tokens, as in the
            paper; a sparse mask then also means a small gradient. "gated": the sum of their weights, which for a hard
            mask is the number of gated tokens. A sum of 0 gives 0.

    Raises:
        DataError: shapes that do not fit.
        ConfigError: an unknown objective or length_norm, or a clipping range that does not contain 1.
    """
    _check_shapes(logps, old_logps, weights, mask)
    chosen = _objective(objective)
    if length_norm not in ("tokens", "gated"):
        raise ConfigError(f'length_norm is {length_norm!r}; choose "tokens" or "gated"')
    if not (0 <= clip_low <= 1 and clip_high >= 0):
        raise ConfigError(
            f"clip_low is {clip_low}, clip_high {clip_high}; use 0 to 1 for the first, 0 or more for both"
        )

    dtype = torch.promote_types(logps.dtype, torch.float32)
    mask, weights = mask.bool(), weights.to(dtype)
    gated = gate_advantages(advantages.to(dtype), weights)
    active = mask & (gated != 0)
    # Both `where` are needed: the first keeps gradients out of inactive tokens, also NaN ones that the chain rule would
    # make of 0 * inf; the second keeps those tokens' values out of the sum.
    log_ratio = torch.where(mask, logps.to(dtype) - old_logps.detach().to(dtype), 0.0)
    log_ratio = torch.where(active, log_ratio, log_ratio.detach())
    surrogate = chosen.surrogate(log_ratio, gated, mask, Clip(clip_low, clip_high))
    surrogate = torch.where(active, surrogate, 0.0)

    counted = mask.to(dtype) if length_norm == "tokens" else torch.where(mask, weights, 0.0)
    if chosen.reduction == "batch":
        return -_ratio(surrogate.sum(), counted.sum())
    return -_ratio(_ratio(surrogate.sum(1), counted.sum(1)).sum(), mask.any(1).sum())


def _clipped(ratio: Tensor, advantages: Tensor, clip: Clip) -> Tensor:
    return torch.minimum(ratio * advantages, ratio.clamp(1 - clip.low, 1 + clip.high) * advantages)


def _bounded_exp(log_ratio: Tensor) -> Tensor:
    return torch.exp(log_ratio.clamp(max=_MAX_LOG_RATIO))


def _ratio(total: Tensor, count: Tensor) -> Tensor:
    """`total / count`, and 0 where nothing was counted."""
    return total / torch.where(count > 0, count, torch.ones_like(count))


def _check_shapes(logps: Tensor, old_logps: Tensor, weights: Tensor, mask: Tensor) -> None:
    shapes = {"logps": logps.shape, "old_logps": old_logps.shape, "weights": weights.shape, "mask": mask.shape}
    if logps.dim() != 2 or len(set(shapes.values())) > 1:
        found = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise DataError(f"shapes are {found}; all must be the same (B, T)")


def _objective(name: str) -> Objective:
    if name not in OBJECTIVES:
        near = get_close_matches(name, OBJECTIVES, n=1, cutoff=0.0)[0]
        raise ConfigError(f"objective is {name!r}; did you mean {near!r}? There are: {', '.join(sorted(OBJECTIVES))}")
    return OBJECTIVES[name]
