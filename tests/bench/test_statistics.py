"""Intervals, differences and probabilities: literal arrays, loops in place of arrays, and laws."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from difference_feedback.bench.statistics import (
    bootstrap,
    paired_t,
    probability_of_improvement,
)
from difference_feedback.errors import DataError

A = np.array([[0.60, 0.40], [0.64, 0.44], [0.62, 0.48]])
B = np.array([[0.58, 0.41], [0.60, 0.40], [0.66, 0.42]])
TABLES = hnp.arrays(np.float64, st.tuples(st.integers(2, 4), st.integers(1, 3)), elements=st.floats(0, 1, width=16))


def every_resample(scores: np.ndarray, stratified: bool) -> list[float]:
    """The mean of every possible resample, by counting them all."""
    runs, tasks = scores.shape
    if not stratified:
        return [float(np.mean([scores[i] for i in rows])) for rows in itertools.product(range(runs), repeat=runs)]
    columns = [
        [float(np.mean([scores[i, task] for i in rows])) for rows in itertools.product(range(runs), repeat=runs)]
        for task in range(tasks)
    ]
    return [float(np.mean(chosen)) for chosen in itertools.product(*columns)]


@pytest.mark.parametrize("stratified", [True, False])
def test_the_bootstrap_is_that_of_all_resamples(stratified: bool) -> None:
    estimate = bootstrap(A, stratified=stratified, repetitions=40_000)
    low, high = np.quantile(every_resample(A, stratified), (0.025, 0.975), method="inverted_cdf")
    assert estimate.value == pytest.approx(0.53)
    assert estimate.low == pytest.approx(low, abs=0.004)
    assert estimate.high == pytest.approx(high, abs=0.004)


def test_tasks_that_rise_and_fall_together_need_whole_runs() -> None:
    together = np.array([[0.1, 0.1, 0.1], [0.2, 0.2, 0.2], [0.3, 0.3, 0.3], [0.4, 0.4, 0.4]])
    apart, whole = bootstrap(together), bootstrap(together, stratified=False)
    assert whole.high - whole.low > 1.3 * (apart.high - apart.low)


def test_the_interval_of_a_difference_is_that_of_the_paired_t_test() -> None:
    estimate = paired_t(A - B)
    expected = stats.ttest_rel(A.mean(axis=1), B.mean(axis=1)).confidence_interval(0.95)
    assert estimate.value == pytest.approx((0.005 + 0.04 + 0.01) / 3)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))


def test_probability_of_improvement_counts_pairs() -> None:
    # Task 1: 0.60, 0.64, 0.62 against 0.58, 0.60, 0.66: 1 + 1/2, 2, 2 of 9. Task 2: 0.40, 0.44, 0.48 against 0.41,
    # 0.40, 0.42: 1/2, 3, 3 of 9.
    assert probability_of_improvement(A, B).value == pytest.approx((5.5 / 9 + 6.5 / 9) / 2)


@given(TABLES)
def test_probability_of_improvement_is_the_mann_whitney_statistic(scores: np.ndarray) -> None:
    first, second = scores, scores[::-1] ** 2
    expected = np.mean(
        [stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)) for a, b in zip(first.T, second.T, strict=True)]
    )
    estimate = probability_of_improvement(first, second, repetitions=50).value
    assert estimate == pytest.approx(expected)
    assert probability_of_improvement(second, first, repetitions=50).value == pytest.approx(1 - estimate)


@given(TABLES, st.booleans())
def test_an_interval_lies_within_the_scores_and_moves_with_them(scores: np.ndarray, stratified: bool) -> None:
    estimate = bootstrap(scores, stratified=stratified, repetitions=200)
    assert scores.min() - 1e-9 <= estimate.low <= estimate.high <= scores.max() + 1e-9
    moved = bootstrap(scores + 1.0, stratified=stratified, repetitions=200)
    assert moved.value == pytest.approx(estimate.value + 1.0)
    assert moved.low == pytest.approx(estimate.low + 1.0)


def test_one_run_has_no_interval() -> None:
    for estimate in (bootstrap(A[:1]), paired_t(A[:1]), probability_of_improvement(A[:1], B)):
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)
        assert not math.isnan(estimate.value)


def test_scores_without_runs_are_refused() -> None:
    with pytest.raises(DataError, match="runs, tasks"):
        bootstrap(np.zeros((0, 3)))
