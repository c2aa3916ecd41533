"""The KL to a reference policy, which stays unweighted. [DF, Eqs. 10, 22]"""

import torch
from torch import Tensor

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method.objectives.reduction import check_reduction, loss_count, quotient, total
from difference_feedback.method.objectives.registry import find_objective

# As for importance ratios: what lies beyond is broken, and exp() must stay finite.
_MAX_LOG_RATIO = 40.0


def kl_loss(
    logps: Tensor,
    ref_logps: Tensor,
    mask: Tensor,
    objective: str = "grpo",
    max_tokens: float | None = None,
    count: Tensor | float | None = None,
) -> Tensor:
    """Estimate of `KL(π_θ ‖ π_ref)` over every completion token, a scalar; add `β kl_loss` to the surrogate loss.

    Per token `π_ref/π_θ - log(π_ref/π_θ) - 1`, which is never below 0. [GRPO, arXiv 2402.03300, Eq. 4; Schulman,
    http://joschu.net/blog/kl-approx.html] Averaged as the objective averages, over all completion tokens whatever
    `length_norm` is.

    There are no weights here, on purpose. They say which tokens are to blame for the reward, and the KL has nothing to
    do with the reward. A weighted update still moves the tokens it does not mark, since all share the same parameters.
    The KL holds those in place, and weights on it would let go exactly where nothing else holds on.

    Args:
        logps: `log π_θ(o_t)`, `(B, T)`, differentiable.
        ref_logps: `log π_ref(o_t)`, `(B, T)`; no gradient goes into it.
        mask: `(B, T)`, 1 at completion tokens.
        objective: a name in `OBJECTIVES`, for the way of averaging. "dpo" has its reference inside and is refused.
        max_tokens: as in `surrogate_loss`.
        count: divisor of the whole batch when this is a part of it: the sum over the parts of
            `loss_count(mask, mask, objective, max_tokens=max_tokens)`.

    Raises:
        DataError: shapes that do not fit.
        ConfigError: an objective without a place for a KL, or options that do not go with it.
    """
    if logps.dim() != 2 or not logps.shape == ref_logps.shape == mask.shape:
        shapes = f"logps {tuple(logps.shape)}, ref_logps {tuple(ref_logps.shape)}, mask {tuple(mask.shape)}"
        raise DataError(f"shapes are {shapes}; all must be the same (B, T)")
    if find_objective(objective).reduction == "pair":
        raise ConfigError(f"objective {objective!r} holds the policy near its reference by itself; add no KL to it")
    check_reduction(objective, "tokens", max_tokens, None)
    dtype = torch.promote_types(logps.dtype, torch.float32)
    mask = mask.bool()
    difference = torch.where(mask, ref_logps.detach().to(dtype), 0.0) - torch.where(mask, logps.to(dtype), 0.0)
    terms = torch.exp(difference.clamp(max=_MAX_LOG_RATIO)) - difference - 1
    ones = mask.to(dtype)
    if count is None:
        count = loss_count(ones, mask, objective, max_tokens=max_tokens)
    return quotient(total(terms, ones, mask, objective), torch.as_tensor(count, dtype=dtype, device=terms.device))
