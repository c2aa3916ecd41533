"""Learning curves over processor time: when a method overtakes another, and when it matches the other's final value."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from difference_feedback.bench.results import ResultRow

Numbers = npt.NDArray[np.float64]


def gains(rows: Sequence[ResultRow], base: float, points: int = 41) -> tuple[Numbers, Numbers]:
    """A grid of CPU seconds, `(P,)`, and `gains_at` it, `(N, P)`."""
    grid = np.linspace(0.0, min(row["curve"][-1][0] for row in rows), points)
    return grid, gains_at(rows, base, grid)


def gains_at(rows: Sequence[ResultRow], base: float, grid: Numbers) -> Numbers:
    """Each run's gain over the start in points, `(N, P)`, at these CPU seconds, `(P,)`.

    Every measurement is compared with the start on the same problems: the measurements before the last one use fewer
    problems. `base` is the start's accuracy on the problems of the last one. The policy does not change while its
    repair model trains.
    """
    gained = []
    for row in rows:
        start, few = row["curve"][0][1], row["curve"][0][2]
        seconds = [0.0] + [point[0] for point in row["curve"]]
        values = [0.0] + [point[1] - (start if point[2] == few else base) for point in row["curve"]]
        gained.append(100 * np.interp(grid, seconds, values))
    return np.array(gained)


def overtakes_at(first: Sequence[ResultRow], second: Sequence[ResultRow], base: float) -> float | None:
    """The CPU seconds after which the mean of `first` stays above the mean of `second`.

    None if it is not above at the end.
    """
    grid, here = gains(first, base)
    other_grid, there = gains(second, base)
    return _for_good(grid, here.mean(axis=0) > np.interp(grid, other_grid, there.mean(axis=0)))


def matches_final_at(first: Sequence[ResultRow], second: Sequence[ResultRow], base: float) -> float | None:
    """The CPU seconds after which the mean of `first` stays at or above the final mean of `second`.

    None if it ends below.
    """
    grid, here = gains(first, base)
    return _for_good(grid, here.mean(axis=0) >= gains(second, base)[1].mean(axis=0)[-1])


def _for_good(grid: Numbers, holds: npt.NDArray[np.bool_]) -> float | None:
    """The place on the grid from which a condition holds to the end; None if it does not hold there."""
    if not holds[-1]:
        return None
    fails = np.flatnonzero(~holds)
    return float(grid[fails[-1] + 1]) if len(fails) else 0.0
