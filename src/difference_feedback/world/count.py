"""Name coloured shapes cell by cell, count two kinds, and compare."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from difference_feedback.world.forms import Form, Slot, Stated, reading
from difference_feedback.world.problem import SPLITS, ImageSplit, Problem
from difference_feedback.world.scans import CELL
from difference_feedback.world.task import Task

COLOURS = {"red": (208, 60, 52), "blue": (52, 96, 200), "green": (60, 160, 84)}
SHAPES = ("circle", "square", "triangle")
NOTHING = "none"
_SCENES: dict[ImageSplit, int] = {"warm": 150, "repair": 500, "rl": 6000, "test": 2000}

Thing = list[str]  # shape and colour; empty for an empty cell


class Count(Task):
    """Are there more of one colour (or shape) than of another, and by how many?"""

    name = "count"

    def sample(self, split: ImageSplit, rng: np.random.Generator) -> Problem:
        # The split is part of the scene's seed, so no image is in two splits.
        scene = np.random.default_rng([0, SPLITS.index(split), int(rng.integers(_SCENES[split]))])
        columns = int(scene.integers(2, 5))
        cells = [[_thing(scene) for _ in range(columns)] for _ in range(2)]
        image = _draw(cells, scene)
        attribute = int(rng.integers(2))
        first, second = rng.permutation([SHAPES, list(COLOURS)][attribute])[:2].tolist()
        facts = {"cells": cells, "attribute": attribute, "kinds": [first, second]}
        seen = [_name(thing, attribute) for row in cells for thing in row]
        answer = _verdict(first, second, seen.count(first), seen.count(second))
        question = f"are there more {first} or {second} , and by how many ?"
        return Problem(self.name, split, question, (image,), answer, facts)

    def caption(self, facts: Mapping[str, Any]) -> str:
        return " , ".join(" ".join(" ".join(reversed(t)) or NOTHING for t in row) for row in facts["cells"])

    def unseen(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        cells = [[[f"cell{y}_{x}"] * 2 for x in range(len(row))] for y, row in enumerate(facts["cells"])]
        return {**facts, "cells": cells}

    def forms(self, facts: Mapping[str, Any]) -> list[Form]:
        forms = []
        choices = [*(SHAPES, COLOURS)[facts["attribute"]], NOTHING]
        for rows in (facts["cells"], facts["cells"][::-1]):
            cells = [
                [reading(f"c{y}_{x}", _name(thing, facts["attribute"]), choices) for x, thing in enumerate(row)]
                for y, row in enumerate(rows)
            ]
            names = [slot.name for row in cells for slot in row]
            for see, then, of in (("i see", ",", "so"), ("one row :", "other row :", "total")):
                a, b = facts["kinds"]
                counts = (a, _number_of("a", a, names), b, _number_of("b", b, names))
                verdict = (_winner(a, b), _margin())
                forms.append(Form((see, *cells[0], then, *cells[1], ".", of, *counts, ".", "answer", *verdict)))
        return forms


def _thing(scene: np.random.Generator) -> Thing:
    if scene.random() < 0.2:
        return []
    return [SHAPES[scene.integers(len(SHAPES))], list(COLOURS)[scene.integers(len(COLOURS))]]


def _name(thing: Thing, attribute: int) -> str:
    return thing[attribute] if thing else NOTHING


def _number_of(name: str, kind: str, cells: Sequence[str]) -> Slot:
    return Slot(name, lambda stated: str([stated[cell] for cell in cells].count(kind)))


def _verdict(first: str, second: str, first_count: int, second_count: int) -> str:
    if first_count == second_count:
        return "same 0"
    return f"{first if first_count > second_count else second} {abs(first_count - second_count)}"


def _winner(a: str, b: str) -> Slot:
    return Slot("winner", lambda stated: _verdict(a, b, *_counts(stated)).split()[0])


def _margin() -> Slot:
    return Slot("margin", lambda stated: str(abs(int.__sub__(*_counts(stated)))))


def _counts(stated: Stated) -> tuple[int, int]:
    return int(stated["a"]), int(stated["b"])


def _draw(cells: list[list[Thing]], scene: np.random.Generator) -> Image.Image:
    """One shape per cell. Size, place and tone vary, and the sheet has noise."""
    sheet = Image.new("RGB", (CELL * len(cells[0]), CELL * len(cells)), "white")
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(cells):
        for x, thing in enumerate(row):
            if not thing:
                continue
            radius = scene.uniform(6, 11)
            centre = (np.array([x, y]) + 0.5) * CELL + scene.uniform(-2, 2, size=2)
            tone = np.clip(np.array(COLOURS[thing[1]]) + scene.normal(0, 30, size=3), 0, 255)
            _draw_shape(draw, thing[0], centre, radius, tuple(int(v) for v in tone))
    noise = scene.normal(0, 8, size=(sheet.height, sheet.width, 3))
    return Image.fromarray(np.clip(np.asarray(sheet) + noise, 0, 255).astype(np.uint8))


def _draw_shape(
    draw: ImageDraw.ImageDraw, shape: str, centre: np.ndarray, radius: float, fill: tuple[int, ...]
) -> None:
    x, y = centre
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        draw.ellipse(box, fill=fill)
    elif shape == "square":
        draw.rectangle(box, fill=fill)
    else:
        draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=fill)
