r"""Answers that say one value in two ways, such as `3 \cdot 4 = 12`."""

import math
import re
from fractions import Fraction
from itertools import combinations

from difference_feedback.judges.values.equality import compare
from difference_feedback.judges.values.expressions import Unreadable
from difference_feedback.judges.values.markup import plain
from difference_feedback.judges.values.quantities import number_of
from difference_feedback.judges.values.readings import LONGEST

_EQUAL = re.compile(
    r"\s*(?:=|\\approx|,?\s\bor\b(?:\s+equivalently,?)?|,?\s+i\.e\.,?\s|,?\s+that is,?\s)\s*", re.IGNORECASE
)
_NAME = re.compile(r"(?:\\(?:angle|triangle)\s*)?[A-Za-z][\w{}()]{0,12}")
_ROUNDED = re.compile(r"-?\d*(?:\.(\d{1,20}))?\s*([^\d\s].*?)?\s*")
_UNIT = re.compile(r"(?<![\\A-Za-z])[A-Za-z%][^\d\s^]*(?:\^\d)?")


def is_number(text: str) -> bool:
    """Whether an answer is a number."""
    try:
        return number_of(text) is not None
    except Unreadable:
        return False


def said_twice(text: str) -> list[str]:
    r"""The first and the last side of `3 \cdot 4 = 12`, `3/4 or 0.75`, `\frac{1}{3} \approx 0.33`, if equal."""
    text = plain(text).replace(" ^", "^")
    sides = _EQUAL.split(text)
    if len(text) > LONGEST or len(sides) < 2:
        return []
    sides = sides[1:] if len(sides) > 2 and _NAME.fullmatch(sides[0]) else sides
    if sides[-1].endswith("°"):  # 180° - 144° = 36°
        sides = [side if "\\" in side else side.replace("°", "") for side in sides[:-1]] + sides[-1:]
    exact = re.search(r"\bor\b", text) is not None
    if len(sides) > 4 or not all(_agree(first, second, exact) for first, second in combinations(sides, 2)):
        return []
    return [sides[0], sides[-1]]


def _agree(first: str, second: str, exact: bool) -> bool:
    """Whether two sides are numbers of one value; the second may be rounded if not `exact`."""
    if not (is_number(first) and is_number(second)):
        return False
    if compare(first, second).equal:
        return True
    rounded = _ROUNDED.fullmatch(second)
    a, b = number_of(first), number_of(second)
    if a is None or b is None or not rounded or _UNIT.findall(first) not in ([], [rounded[2]]):
        return False
    if exact or not rounded[1]:  # 180 - 144, which is a range to `compare`
        return isinstance(a, Fraction) and a == b
    if isinstance(a, float) and not math.isfinite(a):
        return False
    return abs(Fraction(a) - Fraction(b)) <= Fraction(5_000_001, 10_000_000 * 10 ** len(rounded[1]))
