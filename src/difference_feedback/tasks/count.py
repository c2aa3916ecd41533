"""Count coloured shapes of two kinds row by row, and compare."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from difference_feedback.tasks.forms import Form, Slot, Stated, reading, total
from difference_feedback.tasks.problem import Problem, Split
from difference_feedback.tasks.scans import CELL
from difference_feedback.tasks.task import Task

COLOURS = {"red": (208, 60, 52), "blue": (52, 96, 200), "green": (60, 160, 84)}
SHAPES = ("circle", "square", "triangle")
_SCENES: dict[Split, int] = {"warm": 400, "rl": 6000, "test": 2000}
_FIRST_SCENE: dict[Split, int] = {"warm": 0, "rl": 1_000_000, "test": 2_000_000}


class Count(Task):
    """Are there more of one colour (or shape) than of another, and by how many?"""

    name = "count"

    def sample(self, split: Split, rng: np.random.Generator) -> Problem:
        # A scene is known by its seed: each split owns a range of seeds, so that no image is in two of them.
        scene = np.random.default_rng(_FIRST_SCENE[split] + rng.integers(_SCENES[split]))
        rows, columns = int(scene.integers(2, 4)), int(scene.integers(3, 5))
        cells = [[_thing(scene) for _ in range(columns)] for _ in range(rows)]
        image = _draw(cells, scene)
        kinds = [list(COLOURS), list(SHAPES)][rng.integers(2)]
        first, second = rng.permutation(kinds)[:2].tolist()
        facts = {"cells": cells, "kinds": [first, second]}
        counts = [sum(_row_counts(cells, kind)) for kind in (first, second)]
        answer = _verdict(first, second, *counts)
        return Problem(
            self.name, split, f"are there more {first} or {second} , and by how many ?", (image,), answer, facts
        )

    def caption(self, facts: Mapping[str, Any]) -> str:
        return " , ".join(" ".join(f"{t[1]} {t[0]}" if t else "nothing" for t in row) for row in facts["cells"])

    def forms(self, facts: Mapping[str, Any]) -> list[Form]:
        found = []
        for a, b in (facts["kinds"], facts["kinds"][::-1]):
            for rows_are, makes in (("rows", "make"), (":", "total")):
                pieces: list[str | Slot] = []
                for side, kind in (("a", a), ("b", b)):
                    counts = _row_counts(facts["cells"], kind)
                    names = [f"{side}{i}" for i in range(len(counts))]
                    read = [reading(name, count) for name, count in zip(names, counts, strict=True)]
                    pieces += [kind, rows_are, *read, makes, total(f"{side}_total", *names), "."]
                found.append(Form((*pieces, "answer", _winner(a, b), _margin())))
        return found


def _thing(scene: np.random.Generator) -> list[str] | None:
    """A shape and its colour, or an empty cell."""
    if scene.random() < 0.25:
        return None
    return [SHAPES[scene.integers(len(SHAPES))], list(COLOURS)[scene.integers(len(COLOURS))]]


def _row_counts(cells: list[list[list[str] | None]], kind: str) -> list[int]:
    return [sum(thing is not None and kind in thing for thing in row) for row in cells]


def _verdict(first: str, second: str, first_count: int, second_count: int) -> str:
    if first_count == second_count:
        return "same 0"
    return f"{first if first_count > second_count else second} {abs(first_count - second_count)}"


def _winner(a: str, b: str) -> Slot:
    return Slot("winner", lambda stated: _verdict(a, b, *_totals(stated)).split()[0])


def _margin() -> Slot:
    return Slot("margin", lambda stated: str(abs(int.__sub__(*_totals(stated)))))


def _totals(stated: Stated) -> tuple[int, int]:
    return int(stated["a_total"]), int(stated["b_total"])


def _draw(cells: list[list[list[str] | None]], scene: np.random.Generator) -> Image.Image:
    sheet = Image.new("RGB", (CELL * len(cells[0]), CELL * len(cells)), "white")
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(cells):
        for x, thing in enumerate(row):
            if thing is None:
                continue
            radius = scene.uniform(6, 11)
            centre = (np.array([x, y]) + 0.5) * CELL + scene.uniform(-2, 2, size=2)
            colour = tuple(int(v) for v in np.clip(np.array(COLOURS[thing[1]]) + scene.normal(0, 18, size=3), 0, 255))
            _draw_shape(draw, thing[0], centre, radius, colour)
    noise = scene.normal(0, 8, size=(sheet.height, sheet.width, 3))
    return Image.fromarray(np.clip(np.asarray(sheet) + noise, 0, 255).astype(np.uint8))


def _draw_shape(
    draw: ImageDraw.ImageDraw, shape: str, centre: np.ndarray, radius: float, colour: tuple[int, ...]
) -> None:
    x, y = centre
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        draw.ellipse(box, fill=colour)
    elif shape == "square":
        draw.rectangle(box, fill=colour)
    else:
        draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
