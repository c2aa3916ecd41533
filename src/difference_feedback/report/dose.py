"""Dose and response: how good repairs must be for Difference Feedback to gain on GRPO, by what was measured once.

In the embedded world the oracle's repairs were degraded to known shares: of all wrong answers, the share `right` got a
repair that ends right; of those repairs, the share `clean` states no wrong value. For each such point the gain over
GRPO was measured at the same compute, with the same seeds, the repairs not billed. `dose.json` has these points. The
rule is the smallest one that says what a clean and an unclean right repair are worth:

    gain = a + b * right + c * right * clean                                            (percentage points)

Its cost is that of Eq. 29: a step that takes `1 + x` times GRPO's leaves GRPO `1 + x` times the steps, and GRPO gains
`slope` points by each doubling of its compute there. So `slope * log2(1 + x)` is subtracted.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from difference_feedback.errors import DataError

SHIPPED = Path(__file__).with_name("dose.json")
_EVEN = 1.959964
Vector = npt.NDArray[np.float64]


class MeasuredShare(NamedTuple):
    """A measured value with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """The standard error that the interval stands for."""
        return (self.high - self.low) / (2 * _EVEN)


@dataclass(frozen=True)
class DosePoint:
    """A measured point: shares of right repairs and of clean ones among them, and the gain in percentage points."""

    right: float
    clean: float
    gain: float
    low: float
    high: float
    by_seed: Mapping[str, float]


@dataclass(frozen=True)
class Gain:
    """An expected gain over GRPO in percentage points, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> Literal["pays", "costs", "open"]:
        """Whether the interval excludes 0, and on which side."""
        return "pays" if self.low > 0 else "costs" if self.high < 0 else "open"


class Dose:
    """The measured points, and the rule that was fitted to them by least squares over points and seeds.

    All points of a seed are differences from the same GRPO run, so they rise and fall together. The variance of a
    prediction has two parts: that of the residuals within the seeds, and that of the seeds. The quantile is Student's,
    with the degrees of freedom of their sum (F. E. Satterthwaite, Biometrics Bulletin 2, 1946).

    Raises `DataError` for fewer than three points or two seeds, from which nothing can be estimated.
    """

    def __init__(
        self,
        points: list[DosePoint],
        slope: MeasuredShare,
        budget_cpu_seconds: float | None = None,
    ) -> None:
        self.points = points
        self.slope = slope
        """What GRPO gains by each doubling of its compute, in points."""
        self.budget_cpu_seconds = budget_cpu_seconds
        rows = [(p, seed, gain) for p in points for seed, gain in p.by_seed.items()]
        self.seeds = sorted({seed for _, seed, _ in rows})
        design = np.array([_terms(p.right, p.clean) for p, _, _ in rows], np.float64).reshape(-1, 3)
        gains = np.array([gain for _, _, gain in rows], np.float64)
        of_seed = np.array([[seed == name for name in self.seeds] for _, seed, _ in rows], np.float64)
        n, freedom = len(rows), len(rows) - 3 - (len(self.seeds) - 1)
        if len(self.seeds) < 2 or freedom < 1 or np.linalg.matrix_rank(design) < 3:
            raise DataError(
                f"dose: {len(points)} points with {len(self.seeds)} seeds do not determine the rule: give at least "
                "three points that differ in both shares, each with at least two seeds."
            )
        self.coefficients: Vector = np.asarray(np.linalg.lstsq(design, gains, rcond=None)[0], np.float64)
        """`a`, `b`, `c`."""
        self._inverse = np.linalg.inv(design.T @ design)
        self._rows = n
        within = np.hstack([design, of_seed[:, 1:]])
        residuals = gains - within @ np.linalg.lstsq(within, gains, rcond=None)[0]
        self._within = float(residuals @ residuals) / freedom, freedom
        sizes = of_seed.sum(0)
        means = of_seed.T @ (gains - design @ self.coefficients) / sizes
        between = float(sizes @ (means - means.mean()) ** 2) / (len(self.seeds) - 1)
        self._between = max(between, self._within[0]), len(self.seeds) - 1

    @cached_property
    def area(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The smallest and the largest share that was measured, of right and of clean repairs."""
        right, clean = [p.right for p in self.points], [p.clean for p in self.points]
        return (min(right), max(right)), (min(clean), max(clean))

    def gain(self, right: float | MeasuredShare, clean: float | MeasuredShare, overhead: float = 0.0) -> Gain:
        """The expected gain of repairs with these shares, where a step costs `1 + overhead` times GRPO's.

        A `MeasuredShare` brings the error of its own measurement along.
        """
        right, clean = (MeasuredShare(s, s, s) if not isinstance(s, MeasuredShare) else s for s in (right, clean))
        x = np.array(_terms(right.value, clean.value))
        _, b, c = self.coefficients
        doublings = math.log2(1 + overhead)
        value = float(x @ self.coefficients) - self.slope.value * doublings
        (s2, freedom), (t2, seeds_freedom) = self._within, self._between
        measured = ((b + c * clean.value) * right.error) ** 2 + (c * right.value * clean.error) ** 2
        parts = [
            (max(float(x @ self._inverse @ x) - 1 / self._rows, 0.0) * s2, freedom),
            (t2 / self._rows, seeds_freedom),
            (float(measured) + (doublings * self.slope.error) ** 2, math.inf),
        ]
        variance = sum(part for part, _ in parts)
        together = sum(part**2 / df for part, df in parts)
        quantile = float(stdtrit(variance**2 / together, 0.975)) if together else _EVEN
        half = quantile * math.sqrt(variance)
        return Gain(value, value - half, value + half)

    def break_even(self, right: float, overhead: float = 0.0) -> float | None:
        """The share of clean repairs from which on the rule expects a gain; None where it does not depend on it."""
        a, b, c = map(float, self.coefficients)
        price = self.slope.value * math.log2(1 + overhead)
        return (price - a - b * right) / (c * right) if c * right > 0 else None

    def affordable(self, right: float, clean: float) -> float:
        """How much dearer than GRPO's a step may be before the expected gain is gone, as a share; 0 without a gain."""
        free = self.gain(right, clean).value
        if free <= 0 or self.slope.value <= 0:
            return math.inf if free > 0 else 0.0
        return 2.0 ** min(free / self.slope.value, 60.0) - 1


def load_dose(path: Path = SHIPPED) -> Dose:
    """The points that the package ships. Raises `DataError` for a file of another form."""
    try:
        return dose_from(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no points of dose and response ({error}): make it by evidence/dose.py.") from None


def dose_from(values: Mapping[str, Any]) -> Dose:
    """The rule by the values of such a file."""
    points = [DosePoint(**point_of(point)) for point in values["points"]]
    slope = MeasuredShare(values["slope"], *values["slope_interval"])
    return Dose(points, slope, values.get("budget_cpu_seconds"))


def point_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `DosePoint` among those of a point in the file, which also has the number of its seeds."""
    return {name: values[name] for name in DosePoint.__dataclass_fields__}


def _terms(right: float, clean: float) -> tuple[float, float, float]:
    return 1.0, right, right * clean
