"""Plots of the evidence as self-contained SVG: gain against compute, a forest of comparisons, fidelity of the masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from difference_feedback.bench.curves import gains
from difference_feedback.bench.evidence import name_of
from difference_feedback.bench.results import ResultRow
from svg import COLOURS, Canvas

Evidence = Mapping[str, Any]


def compute_plot(rows: Sequence[ResultRow], methods: Sequence[str]) -> str:
    """Gain over the start, in points, against billed CPU seconds: mean over seeds, and the band from least to most.

    See `curves.gains`.
    """
    base = next((row["accuracy"] for row in rows if row["method"] == "base"), None)
    curves = {}
    for name in methods:
        for variant in dict.fromkeys(name_of(row, "label") for row in rows if row["method"] == name):
            runs = [row for row in rows if name_of(row, "label") == variant and len(row["curve"]) > 1]
            if runs and base is not None:
                curves[variant] = gains(runs, base)
    canvas = Canvas(900, 400, left=56, right=300, top=16, bottom=48)
    if not curves:
        return canvas.finish()
    values = np.concatenate([np.ravel(band) for _, band in curves.values()])
    end = max(float(seconds[-1]) for seconds, _ in curves.values())
    canvas.x_axis(0.0, end, "CPU seconds, all that the method needs")
    canvas.y_axis(min(0.0, float(values.min())), float(values.max()), "gain over the start, points")
    labels = []
    for colour, (label, (seconds, band)) in zip(COLOURS, curves.items(), strict=False):
        canvas.band(seconds, band.min(axis=0), band.max(axis=0), colour)
        mean = band.mean(axis=0)
        canvas.line(seconds, mean, colour)
        labels.append((label, float(mean[-1]), colour))
    canvas.labels(labels)
    return canvas.finish()


def forest_plot(comparison: Evidence, pairs: Sequence[tuple[str, str]] | None = None) -> str:
    """Differences in points, one a line, with the stratified bootstrap's interval and every seed as a dot."""
    chosen = [pair for pair in comparison["comparisons"] if pairs is None or (pair["method"], pair["against"]) in pairs]
    canvas = Canvas(900, 70 + 26 * len(chosen), left=480, right=80, top=16, bottom=48)
    if not chosen:
        return canvas.finish()
    ends = [100 * x for pair in chosen for x in (pair["low"], pair["high"], *pair["per_seed"]) if x is not None]
    canvas.x_axis(min(0.0, *ends), max(0.0, *ends), "difference in points")
    canvas.vertical(0.0)
    for i, pair in enumerate(chosen):
        y = 26.0 * i + 32
        colour = COLOURS[0] if pair["difference"] >= 0 else COLOURS[1]
        canvas.text(470, y + 4, " minus ".join(pair["labels"]), anchor="end")
        if pair["low"] is not None:
            canvas.horizontal(100 * pair["low"], 100 * pair["high"], y, colour)
        for value in pair["per_seed"]:
            canvas.dot(100 * value, y, colour, radius=2.5, faint=True)
        canvas.dot(100 * pair["difference"], y, colour, radius=5)
        canvas.text(830, y + 4, f"{100 * pair['difference']:+.1f}")
    return canvas.finish()


def mask_plot(comparison: Evidence) -> str:
    """F1 of the marked tokens against the wrong values, by thirds of training, for every method with masks."""
    canvas = Canvas(860, 360, left=56, right=250, top=16, bottom=48)
    weighted = [figures for figures in comparison["methods"].values() if figures["masks"]]
    if not weighted:
        return canvas.finish()
    canvas.x_axis(1.0, 3.0, "third of training", ticks=[1, 2, 3])
    canvas.y_axis(0.0, 1.0, "F1 of the marked tokens")
    labels = []
    for i, figures in enumerate(weighted):
        colour = COLOURS[i % len(COLOURS)]
        points = [(k + 1.0, third["f1"]) for k, third in enumerate(figures["masks"]["thirds"]) if third]
        if not points:
            continue
        x, y = np.array(points, np.float64).T
        canvas.line(x, y, colour)
        labels.append((figures["label"], float(y[-1]), colour))
    canvas.labels(labels, gap=16)
    return canvas.finish()
