"""Difference Feedback: process-level supervision for vision-language models from outcome rewards alone.

The core's public names are here, each imported when it is first used, so that importing the package costs next to
nothing and pulls in neither torch nor a trainer.
"""

import os
import sys

if sys.argv[:1] == ["-m"] and sys.path[:1] == [os.getcwd()]:
    # Python is on its way to `python -m difference_feedback.cli`, for which it has put the working folder first on its
    # path. A `json.py` or `torch.py` there would be executed, or would silently change results. Before this line
    # nothing is imported but what Python has loaded when it starts.
    del sys.path[0]

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from difference_feedback.errors import ConfigError, DataError, DifferenceFeedbackError
    from difference_feedback.method.alignment import Alignment, Edit, align, edit_cost
    from difference_feedback.method.groups import (
        PairGroup,
        SkipReason,
        Split,
        choose_reference,
        dynamic_sampling,
        group_advantages,
        overlong_penalty,
        pair_group,
        skip_reason,
        split_by_reward,
    )
    from difference_feedback.method.masks import pad_weights, root_cause_mask, step_ids, token_weights
    from difference_feedback.method.objectives import (
        OBJECTIVES,
        anchor_logps,
        kl_loss,
        loss_count,
        register,
        surrogate_loss,
    )
    from difference_feedback.method.selection import Choice, choose_repair, feasible_candidates
    from difference_feedback.method.weighting import gate_advantages, ppo_weights

_MODULES = (
    "errors",
    "method.alignment",
    "method.masks",
    "method.groups",
    "method.selection",
    "method.weighting",
    "method.objectives",
)
"""Where the public names are. Those without torch come first, so that their names are found without it."""

__all__ = [  # noqa: RUF022 - in the order of the method
    "align",
    "Alignment",
    "Edit",
    "edit_cost",
    "token_weights",
    "root_cause_mask",
    "step_ids",
    "pad_weights",
    "split_by_reward",
    "Split",
    "skip_reason",
    "SkipReason",
    "dynamic_sampling",
    "choose_reference",
    "feasible_candidates",
    "choose_repair",
    "Choice",
    "pair_group",
    "PairGroup",
    "overlong_penalty",
    "group_advantages",
    "gate_advantages",
    "ppo_weights",
    "anchor_logps",
    "surrogate_loss",
    "loss_count",
    "kl_loss",
    "OBJECTIVES",
    "register",
    "DifferenceFeedbackError",
    "DataError",
    "ConfigError",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            values = vars(import_module(f"{__name__}.{module}"))
            if name in values:
                globals()[name] = values[name]
                return values[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
