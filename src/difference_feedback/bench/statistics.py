"""The interval of a comparison: Student's, over runs."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from difference_feedback.errors import DataError

Scores = npt.NDArray[np.float64]


class Estimate(NamedTuple):
    """A value with its 95 % interval. The bounds are NaN if there are too few runs."""

    value: float
    low: float
    high: float


def paired_t(scores: Scores) -> Estimate:
    """Student's interval of the mean over runs of each run's mean over tasks, `(N, M)`. It is valid for few runs.

    For differences paired by seed this is the interval of the paired t-test. One run answers all tasks, so its tasks
    rise and fall together, and runs are what is drawn at random.

    Raises:
        DataError: scores that are not a table of at least one run and one task.
    """
    if scores.ndim != 2 or 0 in scores.shape:
        raise DataError(f"scores have shape {scores.shape}; give (runs, tasks), at least one of each")
    means = scores.mean(axis=1)
    value = float(means.mean())
    if len(means) < 2:
        return Estimate(value, math.nan, math.nan)
    half = float(stats.t.ppf(0.975, len(means) - 1)) * float(means.std(ddof=1)) / math.sqrt(len(means))
    return Estimate(value, value - half, value + half)
