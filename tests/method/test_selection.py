"""Choosing among K candidates: right first, then few edits, then order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difference_feedback.errors import DataError
from difference_feedback.method.alignment import align, edit_cost
from difference_feedback.method.selection import choose_repair, feasible_candidates

DRAFT = [1, 2, 3, 4]


def test_feasible_candidates_are_right_and_usable():
    assert feasible_candidates([1.0, 0.0, None, float("nan"), 2.0]) == [0, 4]
    assert feasible_candidates([1.0, 1.0, 1.0], usable=[True, False, True]) == [0, 2]
    assert feasible_candidates([0.6, 0.4], threshold=0.5) == [0]


def test_smallest_edit_cost_wins():
    choice = choose_repair(DRAFT, [[9, 9, 9, 9], [1, 2, 9, 4], [1, 2, 3, 4]], [1.0, 1.0, 0.0])
    assert choice is not None
    assert (choice.index, choice.edit_cost) == (1, 0.25)
    assert choice.alignment.target.tolist() == [1, 2, 9, 4]


def test_ties_go_to_the_first():
    choice = choose_repair(DRAFT, [[1, 2, 3, 9], [1, 2, 9, 4], [9, 2, 3, 4]], [0.0, 1.0, 1.0])
    assert choice is not None
    assert choice.index == 1


def test_no_feasible_candidate_is_none():
    assert choose_repair(DRAFT, [[1], [2]], [0.0, None]) is None
    assert choose_repair(DRAFT, [], []) is None
    assert choose_repair(DRAFT, [[1]], [1.0], usable=[False]) is None


def test_counts_must_agree():
    with pytest.raises(DataError, match="2 candidates and 1 rewards"):
        choose_repair(DRAFT, [[1], [2]], [1.0])
    with pytest.raises(DataError, match="1 rewards and 2 `usable`"):
        choose_repair(DRAFT, [[1]], [1.0], usable=[True, True])


tokens = st.lists(st.integers(0, 3), max_size=6)


@given(tokens, st.lists(st.tuples(tokens, st.sampled_from([0.0, 1.0, None])), max_size=5))
def test_against_a_plain_search(draft, graded):
    candidates, rewards = [c for c, _ in graded], [r for _, r in graded]
    best = None
    for k, (candidate, reward) in enumerate(graded):
        if reward == 1.0:
            cost = edit_cost(align(draft, candidate))
            if best is None or cost < best[1]:
                best = (k, cost)
    for method in ("levenshtein", "lcs"):
        choice = choose_repair(draft, candidates, rewards, method=method)
        assert (choice and (choice.index, choice.edit_cost)) == best
