"""The pictures of the pages as SVG: differences with their intervals, and curves over compute or steps."""

import statistics
from collections.abc import Sequence
from typing import Any

from difference_feedback.bench.curves import gains
from study import Pair, Study
from svg import DASHES, SERIES, Canvas

WINDOW = 10  # steps that a point of a host's curve averages


def difference_plot(studies: Sequence[Study], pairs: Sequence[tuple[str, str]]) -> str:
    """A method a block, a study a bar: the difference in points with its interval, and every seed as a small dot."""
    drawn = [
        (pair, [(i, study) for i, study in enumerate(studies) if study.pair(*pair)])
        for pair in pairs
        if any(study.pair(*pair) for study in studies)
    ]
    height = sum(30 + 22 * len(bars) for _, bars in drawn)
    canvas = Canvas(576, 70 + height, left=60, right=200, top=16, bottom=54)
    ends = [0.0]
    for pair, bars in drawn:
        for _, study in bars:
            ends += [100 * x for x in (*study.pair(*pair)["per_seed"], *_ends(study.pair(*pair)))]
    canvas.x_axis(min(ends), max(ends), "points of held-out accuracy")
    canvas.vertical(0.0)
    y = 34.0
    for pair, bars in drawn:
        study = bars[0][1]
        canvas.text(8, y, f"{study.label(pair[0])} minus {study.label(pair[1])}")
        y += 20
        for series, study in bars:
            comparison = study.pair(*pair)
            canvas.text(8, y + 4, f"{study.seconds} s", kind="grey")
            if bounds := _ends(comparison):
                canvas.horizontal(100 * bounds[0], 100 * bounds[1], y, series)
            for value in comparison["per_seed"]:
                canvas.dot(100 * value, y, series, radius=2.5, faint=True)
            canvas.dot(100 * comparison["difference"], y, series, radius=5)
            canvas.text(canvas.right + 12, y + 4, study.difference(*pair))
            y += 22
        y += 10
    return canvas.finish("Differences in accuracy between methods, with 95 % intervals and every seed")


def _ends(pair: Pair) -> tuple[float, ...]:
    """Both ends of its interval; none where there are too few seeds."""
    return () if pair["low"] is None else (pair["low"], pair["high"])


def compute_plot(study: Study, methods: Sequence[str]) -> str:
    """Gain over the start, in points, against billed CPU seconds: mean over seeds, and the band from least to most."""
    base = next(row["accuracy"] for row in study.rows if row["method"] == "base")
    curves = {name: gains(study.of(name), base) for name in methods if study.has(name)}
    canvas = Canvas(600, 400, left=44, right=184, top=36, bottom=52)
    values = [float(value) for _, band in curves.values() for value in band.ravel()]
    canvas.x_axis(
        0.0, max(float(seconds[-1]) for seconds, _ in curves.values()), "CPU seconds, all that the method needs"
    )
    canvas.y_axis(min(0.0, *values), max(values), "gain over the start, points")
    labels = []
    for i, (name, (seconds, band)) in enumerate(curves.items()):
        series = i % len(SERIES)
        canvas.band(seconds, band.min(axis=0), band.max(axis=0), series)
        mean = band.mean(axis=0)
        canvas.line(seconds, mean, series, DASHES[i % len(DASHES)])
        labels.append((study.label(name), float(mean[-1]), series))
    canvas.labels(labels)
    return canvas.finish("Gain in accuracy over the start against processor time, a line a method")


def hosts_plot(rows: Sequence[dict[str, Any]]) -> str:
    """Running means of the reward: a line a run, TRL's solid and verl's dashed."""
    curves = [(row["cell"], _running_mean(row["rewards"])) for row in rows]
    methods = list(dict.fromkeys(cell.split(", ")[0] for cell, _ in curves))
    canvas = Canvas(600, 360, left=56, right=140, top=36, bottom=52)
    canvas.x_axis(0.0, max(len(row["rewards"]) for row in rows), f"step (each point a mean of {WINDOW})")
    canvas.y_axis(
        min(min(c) for _, c in curves), max(max(c) for _, c in curves), "reward of the policy's answers", ".0%"
    )
    labels = []
    for cell, curve in curves:
        method, host = cell.split(", ")
        series = methods.index(method)
        canvas.line([i + WINDOW for i in range(len(curve))], curve, series, DASHES[1] if host == "verl" else "")
        labels.append((cell, curve[-1], series))
    canvas.labels(labels)
    return canvas.finish("Reward over the steps of training, a line a method and host; verl's lines are dashed")


def _running_mean(values: Sequence[float]) -> list[float]:
    return [statistics.mean(values[i : i + WINDOW]) for i in range(len(values) - WINDOW + 1)]
