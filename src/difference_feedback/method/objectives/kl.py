"""The KL to a reference policy; it has no weights. [DF, Eqs. 10, 22]"""

import torch
from torch import Tensor

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method.objectives.reduction import check_reduction, loss_count, quotient, total
from difference_feedback.method.objectives.registry import find_objective

# As for importance ratios: larger values mean that something is broken, and exp() must stay finite.
_MAX_LOG_RATIO = 40.0


def kl_loss(
    logps: Tensor,
    ref_logps: Tensor,
    mask: Tensor,
    objective: str = "grpo",
    max_tokens: float | None = None,
    count: Tensor | float | None = None,
) -> Tensor:
    """An estimate of `KL(π_θ ‖ π_ref)` over all completion tokens, a scalar; add `β kl_loss` to the surrogate loss.

    A token contributes `π_ref/π_θ - log(π_ref/π_θ) - 1`, which is never below 0. [GRPO, arXiv 2402.03300, Eq. 4;
    Schulman, http://joschu.net/blog/kl-approx.html] The mean is the objective's own, over all completion tokens
    whatever `length_norm` is.

    The KL has no weights on purpose. Weights say which tokens caused the reward, and the KL has nothing to do with the
    reward. A weighted update also changes the tokens that it does not mark, since all tokens share the same parameters.
    The KL keeps those tokens near the reference; with weights it would not act on them.

    Args:
        logps: `log π_θ(o_t)`, `(B, T)`, differentiable.
        ref_logps: `log π_ref(o_t)`, `(B, T)`; it gets no gradient.
        mask: `(B, T)`, 1 at completion tokens.
        objective: a name in `OBJECTIVES`; it sets the way of averaging. "dpo" is rejected: it has its own reference.
        max_tokens: as in `surrogate_loss`.
        count: the divisor of the whole batch if this is only a part of it: the sum over the parts of
            `loss_count(mask, mask, objective, max_tokens=max_tokens)`.

    Raises:
        DataError: the shapes do not match.
        ConfigError: the objective has no KL term, or an option does not belong to it.
    """
    if logps.dim() != 2 or not logps.shape == ref_logps.shape == mask.shape:
        shapes = f"logps {tuple(logps.shape)}, ref_logps {tuple(ref_logps.shape)}, mask {tuple(mask.shape)}"
        raise DataError(f"the shapes differ: {shapes}; give all of them the same (B, T)")
    if find_objective(objective).reduction == "pair":
        raise ConfigError(f"objective {objective!r} already keeps the policy near its reference; do not add a KL to it")
    check_reduction(objective, "tokens", max_tokens, None)
    dtype = torch.promote_types(logps.dtype, torch.float32)
    mask = mask.bool()
    difference = torch.where(mask, ref_logps.detach().to(dtype), 0.0) - torch.where(mask, logps.to(dtype), 0.0)
    terms = torch.exp(difference.clamp(max=_MAX_LOG_RATIO)) - difference - 1
    ones = mask.to(dtype)
    if count is None:
        count = loss_count(ones, mask, objective, max_tokens=max_tokens)
    return quotient(total(terms, ones, mask, objective), torch.as_tensor(count, dtype=dtype, device=terms.device))
