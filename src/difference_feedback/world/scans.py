"""Real handwriting: the 1,797 scanned digits that scikit-learn ships, in disjoint splits.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository (1998),
https://doi.org/10.24432/C50P49, as `sklearn.datasets.load_digits` (8 x 8 pixels, 17 grey levels).
"""

from functools import cache
from itertools import pairwise

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from difference_feedback.world.problem import ImageSplit

CELL = 28  # side of a digit in pixels: one visual token of the nano model (two by two patches of 14)
# Scans of each digit; the others, about 100, are for RL.
_SCANS: dict[ImageSplit, int] = {"warm": 8, "repair": 16, "test": 55}
_LEAN = 18.0  # largest rotation in degrees, to either side
_INK = (0.5, 1.0)


@cache
def scans(split: ImageSplit) -> tuple[tuple[np.ndarray, ...], ...]:
    """The scans of a split by digit: `scans(split)[7]` holds scans of a seven, `(8, 8)` arrays of values 0 to 16."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    ends = np.cumsum([0, *_SCANS.values()]).tolist()
    parts = {name: slice(*bounds) for name, bounds in zip(_SCANS, pairwise(ends), strict=True)}
    part = parts.get(split, slice(ends[-1], None))
    return tuple(tuple(data.images[i] for i in order[data.target[order] == digit][part]) for digit in range(10))


def draw_digit(digit: int, split: ImageSplit, rng: np.random.Generator) -> Image.Image:
    """A scan of `digit` from the split, dark on light, `CELL` pixels square, with small changes of size and place.

    The digits of the warm start are upright and in full ink. All others are rotated and paler, as real handwriting is,
    so that RL has something to teach that the warm start's labels have not.
    """
    choices = scans(split)[digit]
    ink = Image.fromarray((choices[rng.integers(len(choices))] * (255 / 16)).astype(np.uint8))
    side = int(rng.integers(CELL - 6, CELL - 1))
    cell = Image.new("L", (CELL, CELL), 0)
    corner = (CELL - side) // 2 + rng.integers(-1, 2, size=2)
    cell.paste(ink.resize((side, side), Image.Resampling.BICUBIC), (int(corner[0]), int(corner[1])))
    if split == "warm":
        return Image.fromarray(255 - np.asarray(cell)).convert("RGB")
    leaning = cell.rotate(rng.uniform(-_LEAN, _LEAN), Image.Resampling.BICUBIC)
    ink_left = np.asarray(leaning) * rng.uniform(*_INK)
    return Image.fromarray((255 - ink_left).astype(np.uint8)).convert("RGB")


def draw_grid(digits: list[list[int]], split: ImageSplit, rng: np.random.Generator) -> Image.Image:
    """Rows of handwritten digits on one sheet."""
    sheet = Image.new("RGB", (CELL * len(digits[0]), CELL * len(digits)), "white")
    for y, row in enumerate(digits):
        for x, digit in enumerate(row):
            sheet.paste(draw_digit(digit, split, rng), (x * CELL, y * CELL))
    return sheet
