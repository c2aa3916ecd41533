"""Choose among the candidate repairs of one wrong answer: the right one with the fewest edits. [DF, Eqs. 5-7]"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from difference_feedback.errors import DataError
from difference_feedback.method.alignment import Alignment, AlignmentMethod, TokenIds, align, edit_cost
from difference_feedback.method.groups import Rewards, split_by_reward


@dataclass(frozen=True)
class Choice:
    """The candidate chosen: its place among the `K`, its edit cost, and its alignment with the wrong answer."""

    index: int
    edit_cost: float
    alignment: Alignment


def feasible_candidates(rewards: Rewards, threshold: float = 1.0, usable: Sequence[bool] | None = None) -> list[int]:
    """`F`: which candidates are right, `R(x, ỹ) >= threshold`, and usable, ascending. [DF, Eq. 6]

    Args:
        rewards: reward of each candidate, `(K,)`; None, NaN and infinite ones are not feasible.
        usable: which candidates may be chosen at all, `(K,)`, such as those that the auditor or `min_probability`
            admits. None: all of them.

    Raises:
        DataError: as many `usable` as rewards are needed.
    """
    if usable is not None and len(usable) != len(rewards):
        raise DataError(f"there are {len(rewards)} rewards and {len(usable)} `usable`; give one for each candidate")
    correct = split_by_reward(rewards, threshold).correct.tolist()
    return [k for k in correct if usable is None or usable[k]]


def choose_repair(
    draft_ids: TokenIds,
    candidates: Sequence[TokenIds],
    rewards: Rewards,
    threshold: float = 1.0,
    usable: Sequence[bool] | None = None,
    method: AlignmentMethod = "levenshtein",
    anchor_gaps: bool = True,
) -> Choice | None:
    """The feasible candidate with the smallest edit cost, the first of equals, or None if none is feasible. [DF, Eq. 7]

    Args:
        draft_ids: the wrong answer as sampled.
        candidates: token ids of the `K` repairs sampled for it.
        rewards: as for `feasible_candidates`.
        threshold: as for `feasible_candidates`.
        usable: as for `feasible_candidates`.
        method: as for `align`; it shapes the alignment, never the choice.
        anchor_gaps: as `method`.

    Raises:
        DataError: as many rewards as candidates are needed.
    """
    if len(rewards) != len(candidates):
        raise DataError(f"there are {len(candidates)} candidates and {len(rewards)} rewards; give one for each")
    feasible = feasible_candidates(rewards, threshold, usable)
    if not feasible:
        return None
    alignments = [align(draft_ids, candidates[k], method, anchor_gaps) for k in feasible]
    costs = [edit_cost(alignment) for alignment in alignments]
    best = int(np.argmin(costs))  # the first of equals
    return Choice(feasible[best], costs[best], alignments[best])
