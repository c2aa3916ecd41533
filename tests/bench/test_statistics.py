"""The interval of a comparison: the paired t-test's, and laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from difference_feedback.bench.statistics import paired_t
from difference_feedback.errors import DataError

A = np.array([[0.60, 0.40], [0.64, 0.44], [0.62, 0.48]])
B = np.array([[0.58, 0.41], [0.60, 0.40], [0.66, 0.42]])
TABLES = hnp.arrays(np.float64, st.tuples(st.integers(2, 4), st.integers(1, 3)), elements=st.floats(0, 1, width=16))


def test_the_interval_of_a_difference_is_that_of_the_paired_t_test() -> None:
    estimate = paired_t(A - B)
    expected = stats.ttest_rel(A.mean(axis=1), B.mean(axis=1)).confidence_interval(0.95)
    assert estimate.value == pytest.approx((0.005 + 0.04 + 0.01) / 3)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))


@given(TABLES)
def test_an_interval_moves_with_the_scores_and_does_not_see_how_tasks_share_a_mean(scores: np.ndarray) -> None:
    estimate = paired_t(scores)
    assert estimate.low <= estimate.value <= estimate.high
    assert paired_t(scores + 1.0) == pytest.approx([bound + 1.0 for bound in estimate])
    assert paired_t(scores.mean(axis=1, keepdims=True)) == pytest.approx(list(estimate))


def test_one_run_has_no_interval() -> None:
    estimate = paired_t(A[:1])
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)
    assert estimate.value == pytest.approx(0.5)


def test_scores_without_runs_are_refused() -> None:
    with pytest.raises(DataError, match="runs, tasks"):
        paired_t(np.zeros((0, 3)))
