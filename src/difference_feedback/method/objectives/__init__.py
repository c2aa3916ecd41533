"""Losses with a weight for every token: the specification against which the hosts are tested. [DF, Eqs. 10, 22-28]

`surrogate_loss` is the weighted loss of every objective in `OBJECTIVES`. `kl_loss` is the unweighted term beside it.
`loss_count` is the divisor of sums over ranks and micro-batches. `anchor_logps` chooses a repair's importance ratio.
"""

from difference_feedback.method.objectives.anchor import RepairedRatio, anchor_logps
from difference_feedback.method.objectives.kl import kl_loss
from difference_feedback.method.objectives.loss import surrogate_loss
from difference_feedback.method.objectives.preference import dpo
from difference_feedback.method.objectives.reduction import LengthNorm, loss_count
from difference_feedback.method.objectives.registry import (
    OBJECTIVES,
    Clip,
    Objective,
    Reduction,
    Sharpness,
    Temperatures,
    register,
)
from difference_feedback.method.objectives.surrogates import cispo, dapo, dr_grpo, grpo, gspo, ppo, sapo

__all__ = [
    "OBJECTIVES",
    "Clip",
    "LengthNorm",
    "Objective",
    "Reduction",
    "RepairedRatio",
    "Sharpness",
    "Temperatures",
    "anchor_logps",
    "cispo",
    "dapo",
    "dpo",
    "dr_grpo",
    "grpo",
    "gspo",
    "kl_loss",
    "loss_count",
    "ppo",
    "register",
    "sapo",
    "surrogate_loss",
]
