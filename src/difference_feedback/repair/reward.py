"""The repair reward: a repair should be right, and close to the draft. [DF, Eq. 4]"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method.alignment import align, edit_cost

Floats = npt.NDArray[np.float64]


Factor = Callable[..., Sequence[float]]
"""A factor of the reward: 1 keeps a repair's reward, 0 removes it. [DF, Eqs. 3-4]

A factor is called as TRL calls a reward function, by keyword, with one entry for each repair: `prompts` are the repair
model's conversations, `completions` its answers, `completion_ids` their tokens, and `correct` their terminal rewards
(NaN where unjudged). Every column of the data set is passed by its name, among them `draft_ids` and `images`. A factor
returns one number for each repair. No gradient goes through it.
"""


def repair_reward(
    correct: Sequence[float] | Floats,
    edit_costs: Sequence[float] | Floats,
    lam: float = 0.5,
    factors: Sequence[Sequence[float] | Floats] = (),
) -> Floats:
    """`R_rep = (product of factors) · (R(x, ỹ) − λ · C_edit(y, ỹ))`, for `B` repairs. [DF, Eq. 4]

    Args:
        correct: terminal reward `R(x, ỹ)`, `(B,)`. NaN (unjudged) stays NaN.
        edit_costs: `C_edit` of each repair, from 0 to 1, `(B,)`.
        lam: `λ`, the price of an edit cost of 1.
        factors: `(B,)` each, from 0 to 1. Without factors the reward is unchanged.

    Raises:
        ConfigError: `lam` is negative.
    """
    if lam < 0:
        raise ConfigError(f"lam is {lam}; give 0 or more, since a negative price would reward edits")
    rewards = np.asarray(correct, dtype=np.float64) - lam * np.asarray(edit_costs, dtype=np.float64)
    for factor in factors:
        rewards = np.asarray(factor, dtype=np.float64) * rewards
    return rewards


def edit_costs(drafts: Sequence[Sequence[int]], repairs: Sequence[Sequence[int]]) -> Floats:
    """`C_edit` of each pair of token id lists. [DF, Eq. 2]

    The end-of-sequence token must be in both lists of a pair or in neither.
    """
    pairs = zip(drafts, repairs, strict=True)
    return np.array([edit_cost(align(draft, repair, anchor_gaps=False)) for draft, repair in pairs])


def repair_reward_function(
    grade: Callable[..., Sequence[float | None]], *, lam: float = 0.5, factors: Mapping[str, Factor] | None = None
) -> Callable[..., list[float | None]]:
    """Eq. 4 as a reward function for TRL's trainers.

    `grade` is the reward function that grades the policy's own answers. The reward is multiplied by all `factors`. The
    data set must have a column `draft_ids`, the wrong answer's tokens as sampled. Logged are `repair/correct`,
    `repair/edit_cost`, `repair/factor_<name>`, and `repair/reward_without_factors`, the reward without the factors.
    """

    def reward(
        *, prompts: list[Any], completions: list[Any], completion_ids: list[list[int]], **columns: Any
    ) -> list[float | None]:
        if "draft_ids" not in columns:
            raise DataError(
                "the data set has no column 'draft_ids'; add it with each draft's tokens, which the edit cost needs"
            )
        batch = {"prompts": prompts, "completions": completions, "completion_ids": completion_ids, **columns}
        correct = np.array([np.nan if r is None else float(r) for r in grade(**batch)])
        costs = edit_costs(columns["draft_ids"], completion_ids)
        batch["correct"] = correct.tolist()
        values = {name: np.asarray(factor(**batch), dtype=np.float64) for name, factor in (factors or {}).items()}
        rewards = repair_reward(correct, costs, lam, list(values.values()))
        log = columns.get("log_metric")
        if log is not None:
            log("repair/correct", _nanmean(correct))
            log("repair/edit_cost", float(costs.mean()))
            for name, value in values.items():
                log(f"repair/factor_{name}", float(value.mean()))
            log("repair/reward_without_factors", _nanmean(repair_reward(correct, costs, lam)))
        return [None if np.isnan(value) else float(value) for value in rewards]

    reward.__name__ = "repair_reward"
    return reward


def _nanmean(values: Floats) -> float:
    return float("nan") if np.isnan(values).all() else float(np.nanmean(values))
