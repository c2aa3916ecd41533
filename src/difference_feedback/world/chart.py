"""Read two bars off a rendered chart, and subtract."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from difference_feedback.world.forms import Form, Slot, copy, reading
from difference_feedback.world.problem import SPLITS, ImageSplit, Problem
from difference_feedback.world.scans import CELL
from difference_feedback.world.task import Task

COLOURS = {"red": (208, 60, 52), "blue": (52, 96, 200), "green": (60, 160, 84), "black": (40, 40, 40)}
HEIGHTS = range(1, 10)
_CHARTS: dict[ImageSplit, int] = {"warm": 150, "repair": 500, "rl": 6000, "test": 2000}


class Chart(Task):
    """How much taller is one bar than another?"""

    name = "chart"

    def sample(self, split: ImageSplit, rng: np.random.Generator) -> Problem:
        # The split is part of the chart's seed, so no image is in two splits.
        chart = np.random.default_rng([1, SPLITS.index(split), int(rng.integers(_CHARTS[split]))])
        names = chart.permutation(list(COLOURS))[: chart.integers(3, 5)].tolist()
        heights = chart.permutation(np.array(HEIGHTS))[: len(names)].tolist()
        bars = dict(zip(names, heights, strict=True))
        image = _draw(bars, chart)
        pair = rng.permutation(names)[:2].tolist()
        high, low = sorted(pair, key=lambda name: -bars[name])
        facts = {"bars": bars, "high": high, "low": low}
        question = f"how much taller is the {high} bar than the {low} bar ?"
        return Problem(self.name, split, question, (image,), str(bars[high] - bars[low]), facts)

    def caption(self, facts: Mapping[str, Any]) -> str:
        return " , ".join(f"{name} {height}" for name, height in facts["bars"].items())

    def unseen(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        return {**facts, "bars": {name: name for name in facts["bars"]}}

    def forms(self, facts: Mapping[str, Any]) -> list[Form]:
        bars, high, low = facts["bars"], facts["high"], facts["low"]
        read = {high: reading("high", bars[high], HEIGHTS), low: reading("low", bars[low], HEIGHTS)}
        difference = Slot("difference", lambda stated: str(int(stated["high"]) - int(stated["low"])))
        end = ("minus", copy("low_again", "low"), "is", difference, ".", "answer", copy("answer", "difference"))
        forms = []
        for a, b in ((high, low), (low, high)):
            forms.append(Form((a, "is", read[a], ".", b, "is", read[b], ".", copy("high_again", "high"), *end)))
            forms.append(
                Form(("the", a, "bar", "reaches", read[a], ",", b, read[b], ".", copy("high_again", "high"), *end))
            )
        return forms


def _draw(bars: Mapping[str, int], chart: np.random.Generator) -> Image.Image:
    """Bars on a common ground line, 8 pixels per unit, on a sheet three cells tall. Widths and tones vary."""
    unit, ground = 8, 3 * CELL - 4
    sheet = Image.new("RGB", (CELL * len(bars), 3 * CELL), "white")
    draw = ImageDraw.Draw(sheet)
    for level in HEIGHTS:
        draw.line((0, ground - level * unit, sheet.width, ground - level * unit), fill=(224, 224, 224))
    for i, (name, height) in enumerate(bars.items()):
        width, shift = chart.uniform(10, 20), chart.uniform(-3, 3)
        left = (i + 0.5) * CELL - width / 2 + shift
        tone = tuple(int(v) for v in np.clip(np.array(COLOURS[name]) + chart.normal(0, 14, size=3), 0, 255))
        draw.rectangle((left, ground - height * unit, left + width, ground), fill=tone)
    draw.line((0, ground, sheet.width, ground), fill="black")
    noise = chart.normal(0, 8, size=(sheet.height, sheet.width, 3))
    return Image.fromarray(np.clip(np.asarray(sheet) + noise, 0, 255).astype(np.uint8))
