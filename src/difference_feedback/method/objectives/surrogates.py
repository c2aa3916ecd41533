"""What each objective makes of one token: one function each, to be maximised, times its advantage. [DF, Eqs. 22-28]

All take `log_ratio = log π_θ(o_t) - log π_old(o_t)`, weighted advantages `Â_t = w_t A` and the completion mask, each
`(B, T)`, and return `(B, T)`. Averaging is the reduction's part. `ρ_t = exp(log_ratio_t)`.
"""

import torch
from torch import Tensor

from difference_feedback.method.objectives.registry import PPO_CLIP, Clip, Temperatures, register

# Importance ratios beyond e**40 mean that something broke long ago. The bound keeps exp() finite, also in float32 and
# times an advantage, so that a clipped token's gradient is 0 and not 0 * inf.
_MAX_LOG_RATIO = 40.0


@register("ppo", reduction="batch", settings=PPO_CLIP)
def ppo(log_ratio: Tensor, advantages: Tensor, mask: Tensor, clip: Clip) -> Tensor:
    """`min(ρ_t Â_t, clip(ρ_t, 1-ε, 1+ε) Â_t)`, advantages from a critic. [DF, Eqs. 25, 28; PPO, arXiv 1707.06347]"""
    return clipped_ratio(log_ratio, advantages, clip)


@register("grpo", reduction="sequence", settings=PPO_CLIP)
def grpo(log_ratio: Tensor, advantages: Tensor, mask: Tensor, clip: Clip) -> Tensor:
    """`1/|G'| Σ_i 1/|o_i| Σ_t min(ρ_t Â_t, clip(ρ_t, 1-ε, 1+ε) Â_t)`. [DF, Eq. 22; GRPO, arXiv 2402.03300]"""
    return clipped_ratio(log_ratio, advantages, clip)


@register("dapo", reduction="batch", settings=Clip(0.2, 0.28))
def dapo(log_ratio: Tensor, advantages: Tensor, mask: Tensor, clip: Clip) -> Tensor:
    """`1/Σ_i|o_i| Σ_i Σ_t min(ρ_t Â_t, clip(ρ_t, 1-ε_low, 1+ε_high) Â_t)`. [DF, Sec. 3; DAPO, arXiv 2503.14476, Eq. 8]

    Every token of the batch counts alike, so that long answers are not diluted, and `ε_high > ε_low` leaves unlikely
    tokens room to grow. Its other two parts are `groups.dynamic_sampling` and `groups.overlong_penalty`.
    """
    return clipped_ratio(log_ratio, advantages, clip)


@register("dr_grpo", reduction="constant", settings=PPO_CLIP)
def dr_grpo(log_ratio: Tensor, advantages: Tensor, mask: Tensor, clip: Clip) -> Tensor:
    """`1/|G'| Σ_i 1/L Σ_t min(ρ_t Â_t, clip(ρ_t, 1-ε, 1+ε) Â_t)`. [Dr. GRPO, arXiv 2503.20783]

    `L` is `max_tokens`, the same for every answer: dividing by `|o_i|` would punish a long wrong answer less than a
    short one. Take its advantages from `group_advantages(..., scale=False)`: `R_i - mean`, not divided by the
    deviation.
    """
    return clipped_ratio(log_ratio, advantages, clip)


@register("gspo", reduction="sequence", settings=Clip(3e-4, 4e-4))
def gspo(log_ratio: Tensor, advantages: Tensor, mask: Tensor, clip: Clip) -> Tensor:
    """GRPO with `s_t = sg[s] ρ_t / sg[ρ_t]`, `s = (π(o)/π_old(o))^(1/|o|)`. [DF, Eq. 23; GSPO-token, arXiv 2507.18071]

    `s` is the likelihood ratio of the whole sequence: every completion token counts in it, weighted or not. Its value
    reaches all tokens and its gradient none, so that only a token's own advantage decides about its gradient. A mean
    over tokens moves far less than a token's own ratio, hence a clipping range hundreds of times narrower.
    """
    fixed = log_ratio.detach()
    sequence = _bounded_exp(fixed.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1))
    return _clipped(sequence * torch.exp(log_ratio - fixed), advantages, clip)


@register("sapo", reduction="sequence", settings=Temperatures(1.0, 1.05))
def sapo(log_ratio: Tensor, advantages: Tensor, mask: Tensor, temperatures: Temperatures) -> Tensor:
    """`4/τ σ(τ (ρ_t - 1)) Â_t`, `τ` by the sign of `Â_t`. [SAPO, arXiv 2511.20347]

    A soft gate in place of clipping: the gradient's factor `4 p (1 - p) ρ_t`, `p = σ(τ (ρ_t - 1))`, is 1 on-policy and
    fades as the ratio leaves 1. `τ_negative > τ_positive`, since pushing a token down raises all others a little, which
    is the noisier direction. That gate is about staying near the old policy; `w`, inside `Â_t`, is about blame.
    """
    positive, negative = (advantages.new_tensor(tau) for tau in temperatures)  # plain floats would become float32
    tau = torch.where(advantages > 0, positive, negative)
    return 4 / tau * torch.sigmoid(tau * (_bounded_exp(log_ratio) - 1)) * advantages


@register("cispo", reduction="batch", settings=Clip(1.0, 4.0), reads_logps=True)
def cispo(log_ratio: Tensor, advantages: Tensor, mask: Tensor, clip: Clip, logps: Tensor) -> Tensor:
    """`sg[clip(ρ_t, 1-ε_low, 1+ε_high)] Â_t log π_θ(o_t)`. [CISPO in MiniMax-M1, arXiv 2506.13585]

    The importance weight is clipped and not the update: no open token loses its gradient. The paper puts no bound below
    (`ε_low = 1`: a ratio is never under 0) and tunes the one above without naming it; a largest weight of 5 is our
    decision.
    """
    return _bounded_exp(log_ratio.detach()).clamp(1 - clip.low, 1 + clip.high) * advantages * logps


def clipped_ratio(log_ratio: Tensor, advantages: Tensor, clip: Clip) -> Tensor:
    """`min(ρ_t Â_t, clip(ρ_t, 1-ε_low, 1+ε_high) Â_t)`, `(B, T)`, `ρ_t` the token's importance ratio."""
    return _clipped(_bounded_exp(log_ratio), advantages, clip)


def _clipped(ratio: Tensor, advantages: Tensor, clip: Clip) -> Tensor:
    return torch.minimum(ratio * advantages, ratio.clamp(1 - clip.low, 1 + clip.high) * advantages)


def _bounded_exp(log_ratio: Tensor) -> Tensor:
    return torch.exp(log_ratio.clamp(max=_MAX_LOG_RATIO))
