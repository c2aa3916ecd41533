"""The denominator of a repair's importance ratio. [DF, Eqs. 22-23]"""

from typing import Literal, get_args

import torch
from torch import Tensor

from difference_feedback.errors import ConfigError, DataError

RepairedRatio = Literal["old", "one"]


def anchor_logps(logps: Tensor, old_logps: Tensor, is_repair: Tensor, repaired_ratio: RepairedRatio = "old") -> Tensor:
    """The denominators' log-probabilities, `(B, T)`, without gradient: the `old_logps` of `surrogate_loss`.

    The repair model wrote the repair, so `π_θ/π_old` is not an importance weight there. It only keeps the policy near
    a reference point. Which point is our decision:

    - "old": `π_old` under the policy's own prompt, as in the paper. Rollout and repair are kept near the same policy.
      This costs one forward pass over the repairs before the first update.
    - "one": the policy at the first update on the repair. The ratio is then 1, no repair is clipped before it has had
      an effect, and no extra pass is needed. Call this function at that update only, and keep the result for later
      updates on the same rows. Called at every update, it would switch clipping off for repairs.

    Both are equal if every update is the first on its rows and the policy has not changed since it sampled.

    Args:
        logps: `log π_θ(o_t)` now, `(B, T)`.
        old_logps: `log π_old(o_t)`, `(B, T)`; with "one", its rows of repairs are not used.
        is_repair: boolean `(B,)`, as `PairGroup.is_repair`.

    Raises:
        DataError: the shapes do not match.
        ConfigError: `repaired_ratio` is unknown.
    """
    if repaired_ratio not in get_args(RepairedRatio):
        raise ConfigError(f'repaired_ratio is {repaired_ratio!r}; choose "old" or "one"')
    if logps.dim() != 2 or logps.shape != old_logps.shape or is_repair.shape != logps.shape[:1]:
        raise DataError(
            f"logps have shape {tuple(logps.shape)}, old_logps {tuple(old_logps.shape)}, is_repair "
            f"{tuple(is_repair.shape)}; give (B, T), (B, T) and (B,)"
        )
    if repaired_ratio == "old":
        return old_logps.detach()
    dtype = old_logps.dtype if old_logps.is_floating_point() else logps.dtype
    return torch.where(is_repair.bool().unsqueeze(1), logps.detach().to(dtype), old_logps.detach().to(dtype))
