"""The surrogates: one function for each objective, to be maximised, with a value for every token. [DF, Eqs. 22-28]

All take `log_ratio = log π_θ(o_t) - log π_old(o_t)`, weighted advantages `Â_t = w_t A` and the completion mask, each
`(B, T)`, and return `(B, T)`. The reduction does the averaging. `ρ_t = exp(log_ratio_t)`.
"""

import torch
from torch import Tensor

from difference_feedback.method.objectives.registry import PPO_CLIP, Clip, Temperatures, register

# An importance ratio above e**40 means that something is broken. The bound keeps exp() finite, also in float32 and
# times an advantage, so that the gradient of a clipped token is 0 and not 0 * inf.
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

    Every token of the batch counts alike, so tokens of long answers do not count less. `ε_high > ε_low` lets the
    probability of unlikely tokens grow. DAPO's other two parts are `groups.dynamic_sampling` and
    `groups.overlong_penalty`.
    """
    return clipped_ratio(log_ratio, advantages, clip)


@register("dr_grpo", reduction="constant", settings=PPO_CLIP)
def dr_grpo(log_ratio: Tensor, advantages: Tensor, mask: Tensor, clip: Clip) -> Tensor:
    """`1/|G'| Σ_i 1/L Σ_t min(ρ_t Â_t, clip(ρ_t, 1-ε, 1+ε) Â_t)`. [Dr. GRPO, arXiv 2503.20783]

    `L` is `max_tokens`, the same for every answer. Dividing by `|o_i|` would penalise a long wrong answer less than a
    short one. Its advantages are those of `group_advantages(..., scale=False)`: `R_i - mean`, not divided by the
    standard deviation.
    """
    return clipped_ratio(log_ratio, advantages, clip)


@register("gspo", reduction="sequence", settings=Clip(3e-4, 4e-4))
def gspo(log_ratio: Tensor, advantages: Tensor, mask: Tensor, clip: Clip) -> Tensor:
    """GRPO with `s_t = sg[s] ρ_t / sg[ρ_t]`, `s = (π(o)/π_old(o))^(1/|o|)`. [DF, Eq. 23; GSPO-token, arXiv 2507.18071]

    `s` is the likelihood ratio of the whole sequence: every completion token counts in it, whatever its weight. Its
    value acts on all tokens, but it has no gradient, so a token's gradient depends on its own advantage alone. A mean
    over tokens varies far less than a single token's ratio, so the clipping range is hundreds of times narrower.
    """
    fixed = log_ratio.detach()
    sequence = _bounded_exp(fixed.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1))
    return _clipped(sequence * torch.exp(log_ratio - fixed), advantages, clip)


@register("sapo", reduction="sequence", settings=Temperatures(1.0, 1.05))
def sapo(log_ratio: Tensor, advantages: Tensor, mask: Tensor, temperatures: Temperatures) -> Tensor:
    """`4/τ σ(τ (ρ_t - 1)) Â_t`, `τ` by the sign of `Â_t`. [SAPO, arXiv 2511.20347]

    Soft clipping: the gradient's factor `4 p (1 - p) ρ_t`, `p = σ(τ (ρ_t - 1))`, is 1 on-policy and shrinks as the
    ratio moves away from 1. `τ_negative > τ_positive`, because lowering one token's probability raises all others a
    little, which is the noisier direction. This factor keeps the policy near the old one; the weight `w` inside `Â_t`
    says which tokens are responsible.
    """
    positive, negative = (advantages.new_tensor(tau) for tau in temperatures)  # plain floats would become float32
    tau = torch.where(advantages > 0, positive, negative)
    return 4 / tau * torch.sigmoid(tau * (_bounded_exp(log_ratio) - 1)) * advantages


@register("cispo", reduction="batch", settings=Clip(1.0, 4.0), reads_logps=True)
def cispo(log_ratio: Tensor, advantages: Tensor, mask: Tensor, clip: Clip, logps: Tensor) -> Tensor:
    """`sg[clip(ρ_t, 1-ε_low, 1+ε_high)] Â_t log π_θ(o_t)`. [CISPO in MiniMax-M1, arXiv 2506.13585]

    The importance weight is clipped, not the update, so clipping removes no token's gradient. The paper sets no lower
    bound (`ε_low = 1`, since a ratio is never below 0) and does not state its upper bound; a largest importance weight
    of 5 is our decision.
    """
    return _bounded_exp(log_ratio.detach()).clamp(1 - clip.low, 1 + clip.high) * advantages * logps


def clipped_ratio(log_ratio: Tensor, advantages: Tensor, clip: Clip) -> Tensor:
    """`min(ρ_t Â_t, clip(ρ_t, 1-ε_low, 1+ε_high) Â_t)`, `(B, T)`, `ρ_t` the token's importance ratio."""
    return _clipped(_bounded_exp(log_ratio), advantages, clip)


def _clipped(ratio: Tensor, advantages: Tensor, clip: Clip) -> Tensor:
    return torch.minimum(ratio * advantages, ratio.clamp(1 - clip.low, 1 + clip.high) * advantages)


def _bounded_exp(log_ratio: Tensor) -> Tensor:
    return torch.exp(log_ratio.clamp(max=_MAX_LOG_RATIO))
