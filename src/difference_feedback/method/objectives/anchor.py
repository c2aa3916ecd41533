"""What a repair's importance ratio is taken against. [DF, Eqs. 22-23]"""

from typing import Literal, get_args

import torch
from torch import Tensor

from difference_feedback.errors import ConfigError, DataError

RepairedRatio = Literal["old", "one"]


def anchor_logps(logps: Tensor, old_logps: Tensor, is_repair: Tensor, repaired_ratio: RepairedRatio = "old") -> Tensor:
    """The denominators' log-probabilities, `(B, T)`, without gradient: the `old_logps` of `surrogate_loss`.

    A repair was written by the repair model, so `π_θ/π_old` is no importance weight there. It only keeps the policy
    near a point, and which point is a choice (our decision):

    - "old": `π_old`, under the policy's own prompt, as in the paper. Rollout and repair are held near the same policy.
      Costs one forward pass over the repairs before the first update.
    - "one": the policy at the first update that meets the repair. The ratio is 1 there, no repair is clipped before it
      has taught anything, and no extra pass is needed. Call this at that update and keep what it returns for the later
      ones: calling it at every update would leave the repairs without any clipping.

    The two are the same when every update is the first one on its rows and the policy has not moved since it sampled.

    Args:
        logps: `log π_θ(o_t)` now, `(B, T)`.
        old_logps: `log π_old(o_t)`, `(B, T)`; with "one", not read in the rows of repairs.
        is_repair: boolean `(B,)`, as `PairGroup.is_repair`.

    Raises:
        DataError: shapes that do not fit.
        ConfigError: an unknown `repaired_ratio`.
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
    return torch.where(is_repair.bool().unsqueeze(1), logps.detach().to(old_logps.dtype), old_logps.detach())
