"""Four tasks on a row or a grid of handwritten digits: sum, running maximum, look-up, order."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from difference_feedback.world.forms import Form, Slot, Stated, copy, reading, total
from difference_feedback.world.problem import ImageSplit, Problem
from difference_feedback.world.scans import draw_grid
from difference_feedback.world.task import Task


def _pick(rng: np.random.Generator, *choices: str) -> str:
    return choices[rng.integers(len(choices))]


def _directions(digits: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    return digits, digits[::-1]


class DigitRow(Task):
    """A task on one row of digits."""

    def caption(self, facts: Mapping[str, Any]) -> str:
        return " ".join(map(str, facts["digits"]))

    def unseen(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        return {"digits": [f"digit{i}" for i in range(len(facts["digits"]))]}


class DigitsSum(DigitRow):
    """Add three or four digits step by step."""

    name = "digits-sum"

    def sample(self, split: ImageSplit, rng: np.random.Generator) -> Problem:
        digits = rng.integers(0, 10, size=rng.integers(3, 5)).tolist()
        question = _pick(
            rng, "what is the sum of the digits ?", "add the digits .", "how much do all the digits make ?"
        )
        image = draw_grid([digits], split, rng)
        return Problem(self.name, split, question, (image,), str(sum(digits)), {"digits": digits})

    def forms(self, facts: Mapping[str, Any]) -> list[Form]:
        forms = []
        for digits in _directions(facts["digits"]):
            for first, add, gives in (([], "plus", "is"), (["start"], "add", "makes")):
                pieces: list[str | Slot] = [*first, reading("d0", digits[0])]
                last = "d0"
                for i, digit in enumerate(digits[1:], 1):
                    comma = [","] if i > 1 or first else []
                    pieces += [*comma, add, reading(f"d{i}", digit), gives, total(f"s{i}", last, f"d{i}")]
                    last = f"s{i}"
                forms.append(Form((*pieces, ".", "answer", copy("answer", last))))
        return forms


class DigitsMax(DigitRow):
    """Keep a running maximum over four or five digits."""

    name = "digits-max"

    def sample(self, split: ImageSplit, rng: np.random.Generator) -> Problem:
        digits = rng.integers(0, 10, size=rng.integers(4, 6)).tolist()
        question = _pick(
            rng, "what is the largest digit ?", "find the maximum .", "which of the digits is the greatest ?"
        )
        image = draw_grid([digits], split, rng)
        return Problem(self.name, split, question, (image,), str(max(digits)), {"digits": digits})

    def forms(self, facts: Mapping[str, Any]) -> list[Form]:
        forms = []
        for digits in _directions(facts["digits"]):
            for see, keep in (("see", "keep"), ("then", "best")):
                pieces: list[str | Slot] = [see, reading("d0", digits[0]), keep, copy("m0", "d0")]
                for i, digit in enumerate(digits[1:], 1):
                    pieces += [",", see, reading(f"d{i}", digit), keep, _larger(f"m{i}", f"m{i - 1}", f"d{i}")]
                forms.append(Form((*pieces, ".", "answer", copy("answer", f"m{len(digits) - 1}"))))
        return forms


def _larger(name: str, a: str, b: str) -> Slot:
    return Slot(name, lambda stated: str(max(int(stated[a]), int(stated[b]))))


class GridLookup(Task):
    """Find a digit in a grid by reading its row or its column first."""

    name = "grid-lookup"

    def sample(self, split: ImageSplit, rng: np.random.Generator) -> Problem:
        rows, columns = int(rng.integers(2, 4)), int(rng.integers(2, 5))
        grid = rng.integers(0, 10, size=(rows, columns)).tolist()
        row, column = int(rng.integers(rows)), int(rng.integers(columns))
        question = _pick(
            rng, f"what is in row {row + 1} , column {column + 1} ?", f"row {row + 1} column {column + 1} ?"
        )
        facts = {"grid": grid, "row": row, "column": column}
        return Problem(self.name, split, question, (draw_grid(grid, split, rng),), str(grid[row][column]), facts)

    def caption(self, facts: Mapping[str, Any]) -> str:
        return " , ".join(" ".join(map(str, row)) for row in facts["grid"])

    def unseen(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        grid = [[f"cell{y}_{x}" for x in range(len(row))] for y, row in enumerate(facts["grid"])]
        return {**facts, "grid": grid}

    def forms(self, facts: Mapping[str, Any]) -> list[Form]:
        grid, row, column = facts["grid"], facts["row"], facts["column"]
        lines = (("row", row, "column", column, grid[row]), ("column", column, "row", row, [r[column] for r in grid]))
        forms = []
        for line, line_index, cross, cross_index, values in lines:
            cells: list[str | Slot] = [reading(f"d{i}", value) for i, value in enumerate(values)]
            chosen = copy("found", f"d{cross_index}")
            here, there = (line, str(line_index + 1)), (cross, str(cross_index + 1))
            end = (".", "answer", copy("answer", "found"))
            forms.append(Form((*here, "reads", *cells, ".", *there, "has", chosen, *end)))
            forms.append(Form(("in", *here, "i", "see", *cells, ".", "at", *there, "is", chosen, *end)))
        return forms


class Order(DigitRow):
    """Put three or four digits in ascending order."""

    name = "order"

    def sample(self, split: ImageSplit, rng: np.random.Generator) -> Problem:
        digits = rng.integers(0, 10, size=rng.integers(3, 5)).tolist()
        question = _pick(rng, "sort the digits .", "put the digits in order from small to large .")
        answer = " ".join(map(str, sorted(digits)))
        return Problem(self.name, split, question, (draw_grid([digits], split, rng),), answer, {"digits": digits})

    def forms(self, facts: Mapping[str, Any]) -> list[Form]:
        return [
            build(digits) for digits in _directions(facts["digits"]) for build in (_sorted_at_once, _insertion_sort)
        ]


def _sorted_at_once(digits: Sequence[int]) -> Form:
    names = [f"d{i}" for i in range(len(digits))]
    read = [reading(name, digit) for name, digit in zip(names, digits, strict=True)]
    ranked = [_ranked(f"r{i}", names, i) for i in range(len(names))]
    answer = [copy(f"a{i}", f"r{i}") for i in range(len(names))]
    return Form(("i", "see", *read, ".", "sorted", *ranked, ".", "answer", *answer))


def _insertion_sort(digits: Sequence[int]) -> Form:
    pieces: list[str | Slot] = ["take", reading("d0", digits[0])]
    done = ["d0"]
    for i, digit in enumerate(digits[1:], 1):
        grown = [*done, f"d{i}"]
        done = [f"r{i}_{j}" for j in range(i + 1)]
        pieces += [",", "put", reading(f"d{i}", digit), ":", *(_ranked(name, grown, j) for j, name in enumerate(done))]
    return Form((*pieces, ".", "answer", *(copy(f"a{j}", name) for j, name in enumerate(done))))


def _ranked(name: str, sources: Sequence[str], rank: int) -> Slot:
    def value(stated: Stated) -> str:
        return str(sorted(int(stated[source]) for source in sources)[rank])

    return Slot(name, value)
