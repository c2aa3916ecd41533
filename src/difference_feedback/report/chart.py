"""Geometry of the curves: from data to SVG coordinates. Template and style sheet draw them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from difference_feedback.report.data import Curve, Interval

WIDTH, HEIGHT = 860, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 130, 16, 48


@dataclass(frozen=True)
class Point:
    """A measured value at `(x, y)`, its interval from `low` to `high` (all in SVG units), and its tooltip."""

    x: float
    y: float
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True)
class Line:
    """A curve with `points`, or a horizontal level without. Its name stands at `label_y`; `index` picks its colour."""

    name: str
    index: int
    y: float
    label_y: float
    points: list[Point] = field(default_factory=list)
    value: str = ""

    @property
    def path(self) -> str:
        return "M" + "L".join(f"{p.x:.1f} {p.y:.1f}" for p in self.points)

    @property
    def band(self) -> str:
        """Outline of the interval band; empty if a point has no interval."""
        if any(p.low is None or p.high is None for p in self.points):
            return ""
        ends = [f"{p.x:.1f} {p.high:.1f}" for p in self.points] + [f"{p.x:.1f} {p.low:.1f}" for p in self.points[::-1]]
        return "M" + "L".join(ends) + "Z"


@dataclass(frozen=True)
class LearningChart:
    """The plot: tick labels with their positions, horizontal levels, curves."""

    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    levels: list[Line]
    curves: list[Line]
    unit: str
    """Of the horizontal axis."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


CLOCKS = {"gpu_seconds": "GPU seconds", "cpu_seconds": "processor seconds", "wall_seconds": "wall seconds"}


def learning_chart(curves: list[Curve], levels: dict[str, float]) -> LearningChart | None:
    """Accuracy against compute, with horizontal lines at `levels`, by name. None when there is no curve.

    The horizontal axis shows the first of GPU, processor and wall seconds that a curve has; curves without them are
    left out.
    """
    points = [point for curve in curves for point in curve.points]
    has = {clock: any(getattr(point, clock) is not None for point in points) for clock in CLOCKS}
    clock, unit = next(((clock, unit) for clock, unit in CLOCKS.items() if has[clock]), ("wall_seconds", ""))
    timed = {
        curve.name: sorted(((at, p) for p in curve.points if (at := getattr(p, clock)) is not None), key=itemgetter(0))
        for curve in curves
    }
    measured = {
        name: [
            Measured(at, p.accuracy, p.interval, f"{name}: {p.accuracy:.1%} at {at:.0f} {unit}, step {p.step}")
            for at, p in points
        ]
        for name, points in timed.items()
        if points
    }
    return _chart(measured, levels, unit, (".0%", ".1%")) if measured else None


def reward_chart(curves: Mapping[str, Sequence[tuple[int, float]]]) -> LearningChart | None:
    """Mean reward, in its own units, against the step. None when there is no curve."""
    measured = {
        name: [Measured(step, reward, None, f"{name}: {reward:.3g} at step {step}") for step, reward in points]
        for name, points in curves.items()
    }
    return _chart(measured, {}, "steps", ("g", ".3g")) if measured else None


class Measured(NamedTuple):
    """A value of a curve, where it was measured, and its tooltip."""

    at: float
    value: float
    interval: Interval | None
    text: str


def _chart(
    curves: Mapping[str, Sequence[Measured]], levels: Mapping[str, float], unit: str, formats: tuple[str, str]
) -> LearningChart:
    """The plot. `formats` are those of the vertical axis' ticks and of the labels."""
    tick_format, label_format = formats
    points = [point for points in curves.values() for point in points]
    values = [point.value for point in points] + list(levels.values())
    values += [bound for point in points for bound in point.interval or ()]
    texts = [_label(name, format(points[-1].value, label_format)) for name, points in curves.items()]
    margin = max(RIGHT, 20 + 7 * max(len(line) for text in texts for line in text))
    x_end = 1.02 * max(*(point.at for point in points), 1e-9)
    x_ticks = [tick for tick in nice_ticks(0.0, x_end, 6) if tick <= x_end]
    y_ticks = nice_ticks(min(values), max(values), 6)

    def to_x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - margin) * value / x_end

    def to_y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])

    drawn = [
        [
            Point(
                x=to_x(p.at),
                y=to_y(p.value),
                low=to_y(p.interval[0]) if p.interval else None,
                high=to_y(p.interval[1]) if p.interval else None,
                text=p.text,
            )
            for p in points
        ]
        for points in curves.values()
    ]
    wanted = [points[-1].y for points in drawn] + [to_y(value) for value in levels.values()]
    labels = spread(wanted, gap=30, low=TOP + 10, high=HEIGHT - BOTTOM)
    return LearningChart(
        x_ticks=[(to_x(tick), f"{tick:g}") for tick in x_ticks],
        y_ticks=[(to_y(tick), format(tick, tick_format)) for tick in y_ticks],
        curves=[
            Line(name, i, points[-1].y, labels[i], points, value)
            for i, ((name, value), points) in enumerate(zip(texts, drawn, strict=True))
        ],
        unit=unit,
        levels=[
            Line(name, i, to_y(value), labels[len(curves) + i], value=format(value, label_format))
            for i, (name, value) in enumerate(levels.items())
        ],
        right=WIDTH - margin,
    )


def _label(name: str, value: str) -> tuple[str, str]:
    """A curve's label in two lines: its name, then its value with what the name has in brackets."""
    head, bracket, rest = name.partition(" (")
    return head, f"{value}{bracket}{rest}"


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` ticks that enclose `low..high`, at multiples of 1, 2 or 5 times a power of ten."""
    span = max(high - low, abs(high) * 1e-6, 0.05)  # equal values, too, get two ticks
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(m * power for m in (1, 2, 5, 10) if m * power * count >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return [round(i * step, 12) for i in range(first, last + 1)]


def spread(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Positions for labels: near `wanted`, in the same order, and at least `gap` apart if there is room."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    placed = [0.0] * len(wanted)
    last = low - gap
    for i in order:
        placed[i] = last = max(wanted[i], last + gap)
    last = high + gap
    for i in reversed(order):
        placed[i] = last = min(placed[i], last - gap)
    return placed
