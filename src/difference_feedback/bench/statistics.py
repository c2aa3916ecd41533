"""Statistics of a comparison: bootstrap intervals, differences paired by seed, probability of improvement.

The aggregate over tasks, the stratified bootstrap and the probability of improvement are those of R. Agarwal et al.,
"Deep RL at the edge of the statistical precipice" (arXiv 2108.13264, the `rliable` library). There every task has runs
of its own; here one run of a method answers all tasks, so its tasks rise and fall together. Resampling each task's
seeds apart from the others' then makes intervals of the mean too narrow; `stratified=False` keeps a run whole.

Scores are `(N, M)`: `N` runs, one a seed, of `M` tasks.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from difference_feedback.errors import DataError

Scores = npt.NDArray[np.float64]
REPETITIONS = 10_000


class Estimate(NamedTuple):
    """A value with its 95 % interval. The bounds are NaN if there are too few runs."""

    value: float
    low: float
    high: float


def bootstrap(scores: Scores, *, stratified: bool = True, repetitions: int = REPETITIONS, seed: int = 0) -> Estimate:
    """Percentile bootstrap interval of the mean of `scores` over runs and tasks.

    Args:
        scores: `(N, M)`.
        stratified: resample the runs of each task apart from the others' (`rliable`); False resamples whole runs.

    Raises:
        DataError: scores that are not a table of at least one run and one task.
    """
    if scores.ndim != 2 or 0 in scores.shape:
        raise DataError(f"scores have shape {scores.shape}; give (runs, tasks), at least one of each")
    value = float(scores[None].mean(axis=(1, 2))[0])
    runs, tasks = scores.shape
    if runs < 2:
        return Estimate(value, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    if stratified:
        rows = rng.integers(runs, size=(repetitions, runs, tasks))
        resampled = scores[rows, np.arange(tasks)]
    else:
        resampled = scores[rng.integers(runs, size=(repetitions, runs))]
    low, high = np.quantile(resampled.mean(axis=(1, 2)), (0.025, 0.975))
    return Estimate(value, float(low), float(high))


def paired_t(scores: Scores) -> Estimate:
    """Student's interval of the mean over runs of each run's mean over tasks, `(N, M)`. It is valid for few runs.

    For differences paired by seed this is the interval of the paired t-test.
    """
    means = scores.mean(axis=1)
    value = float(means.mean())
    if len(means) < 2:
        return Estimate(value, math.nan, math.nan)
    half = float(stats.t.ppf(0.975, len(means) - 1)) * float(means.std(ddof=1)) / math.sqrt(len(means))
    return Estimate(value, value - half, value + half)


def probability_of_improvement(first: Scores, second: Scores, *, repetitions: int = 2_000, seed: int = 0) -> Estimate:
    """`P(X > Y)`, ties counting half, averaged over tasks: Mann-Whitney's `U / (N K)`. [rliable, Sec. 4.3]

    `first` is `(N, M)`, `second` `(K, M)`; the interval is from the stratified bootstrap of both.
    """
    value = float(_improvement(first[None], second[None])[0])
    if min(len(first), len(second)) < 2:
        return Estimate(value, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    tasks = np.arange(first.shape[1])
    a, b = (scores[rng.integers(len(scores), size=(repetitions, *scores.shape)), tasks] for scores in (first, second))
    low, high = np.quantile(_improvement(a, b), (0.025, 0.975))
    return Estimate(value, float(low), float(high))


def _improvement(first: Scores, second: Scores) -> npt.NDArray[np.float64]:
    """`(R, N, M)`, `(R, K, M)` -> `(R,)`."""
    difference = first[:, :, None] - second[:, None]
    return ((difference > 0) + 0.5 * (difference == 0)).mean(axis=(1, 2, 3))
