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


def feasible_candidates(
    rewards: Rewards, threshold: float = 1.0, gates: Sequence[float | bool] | None = None
) -> list[int]:
    """`F`: which candidates are right, `R(x, ỹ) >= threshold`, with their gates open, ascending. [DF, Eq. 6]

    Args:
        rewards: reward of each candidate, `(K,)`; None, NaN and infinite ones are not feasible.
        gates: product of the audit and blank-image gates of each, `(K,)`: 0 shuts a candidate out. None: gates are off.

    Raises:
        DataError: as many gates as rewards are needed.
    """
    if gates is not None and len(gates) != len(rewards):
        raise DataError(f"there are {len(rewards)} rewards and {len(gates)} gates; give one gate for each candidate")
    correct = split_by_reward(rewards, threshold).correct.tolist()
    return [k for k in correct if gates is None or gates[k] > 0]


def choose_repair(
    draft_ids: TokenIds,
    candidates: Sequence[TokenIds],
    rewards: Rewards,
    threshold: float = 1.0,
    gates: Sequence[float | bool] | None = None,
    method: AlignmentMethod = "levenshtein",
    anchor_gaps: bool = True,
) -> Choice | None:
    """The feasible candidate with the smallest edit cost, the first of equals, or None if none is feasible. [DF, Eq. 7]

    Args:
        draft_ids: the wrong answer as sampled.
        candidates: token ids of the `K` repairs sampled for it.
        rewards, threshold, gates: as for `feasible_candidates`.
        method, anchor_gaps: as for `align`; they shape the alignment, never the choice.

    Raises:
        DataError: as many rewards as candidates are needed.
    """
    if len(rewards) != len(candidates):
        raise DataError(f"there are {len(candidates)} candidates and {len(rewards)} rewards; give one for each")
    feasible = feasible_candidates(rewards, threshold, gates)
    if not feasible:
        return None
    alignments = [align(draft_ids, candidates[k], method, anchor_gaps) for k in feasible]
    costs = [edit_cost(alignment) for alignment in alignments]
    best = int(np.argmin(costs))  # the first of equals
    return Choice(feasible[best], costs[best], alignments[best])
