"""Rows spread over ranks and micro-batches, without a model: laws for random counts, and what fillers cost."""

import numpy as np
import pytest

from difference_feedback.trl.pair_batch import rows_per_rank
from difference_feedback.trl.row_plan import plan_rows


@pytest.mark.parametrize("seed", range(20))
def test_every_rank_gets_its_share_and_no_row_moves_without_need(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ranks, windows, steps, largest = (int(rng.integers(1, high)) for high in (9, 4, 17, 9))
    counts = rng.integers(0, 1 + int(rng.integers(1, 60)), (ranks, windows)).tolist()
    first = int(rng.integers(0, windows))
    plan = plan_rows(counts, steps, largest, first)
    assert len(plan.sizes) == windows * steps
    after = np.array(counts)
    for move in plan.moves:
        assert move.rows > 0
        after[move.source, move.window] -= move.rows
        after[move.target, move.window] += move.rows
    for window in range(windows):
        sizes, before = plan.sizes[window * steps : (window + 1) * steps], np.array(counts)[:, window]
        used = [size for size in sizes if size]
        share = max(1, -(-before.sum() // ranks))
        starts = window == first and steps > 1  # its first micro-batch samples the answers, its last one steps
        assert sizes[-1]
        assert sizes[0] or not starts
        assert sum(sizes) == max(share, 2 if starts else 1)
        assert max(used) - min(used) <= 1
        assert max(used) <= largest or len(used) == steps
        assert len(used) == max(min(steps, -(-share // largest)), 2 if starts else 1)
        assert after[:, window].max() <= sum(sizes)
        assert after[:, window].sum() == before.sum()
        moved = sum(move.rows for move in plan.moves if move.window == window)
        assert moved == np.maximum(before - sum(sizes), 0).sum()


def test_rows_that_fill_up_one_rank_exactly_keep_their_micro_batches() -> None:
    assert plan_rows([[8, 8]], 4, 2) == ([2] * 8, [])


QUESTIONS = (88, 42, 37, 32, 19, 18, 22, 27, 99)
"""Of the embedded world: how many have 0, 1, ... 8 wrong answers of 8 by its base model."""


@pytest.mark.parametrize(("answers", "a_device"), [(128, 1), (128, 16), (512, 1), (512, 16)])
def test_fillers_on_eight_ranks_are_few(answers: int, a_device: int) -> None:
    """Every wrong answer has a repair; consecutive groups are on one rank. The rule without moves is the other way."""
    rng, ranks, micro_batches = np.random.default_rng(0), 8, answers // 8 // a_device
    wrong = np.repeat(np.arange(9), QUESTIONS)
    rows = evenly = unevenly = 0
    for _ in range(200):
        pairs = rng.choice(wrong, answers // 8).reshape(ranks, -1).sum(axis=1)
        counts = (2 * pairs).tolist()
        plan = plan_rows([[count] for count in counts], micro_batches, a_device)
        rows += sum(counts)
        evenly += ranks * sum(plan.sizes)
        unevenly += ranks * rows_per_rank(counts, micro_batches)
    assert 1 - rows / evenly < 0.04
    assert 1 - rows / unevenly > 0.25
