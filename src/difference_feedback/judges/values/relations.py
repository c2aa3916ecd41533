"""Equations, inequalities, intervals written as inequalities, and names of what is sought."""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from difference_feedback.judges.values.brackets import joined, outside, split
from difference_feedback.judges.values.expressions import Unreadable, parse
from difference_feedback.judges.values.kinds import Items, Named, Reading, Relation
from difference_feedback.judges.values.quantities import Quantity, read_quantity
from difference_feedback.judges.values.tokens import COMMAND, NUMBER, WORD, Token

_RELATIONS = {"<": "<", ">": ">", "\\le": "\\le", "\\ge": "\\ge", "=": "=", "\\ne": "\\ne", "\\approx": "="}
_MIRRORED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
WORD_RELATIONS = (
    (re.compile(r"(?:at least|no less than|a minimum of)\s+(?=[\d\\.(-])", re.IGNORECASE), "\\ge "),
    (re.compile(r"(?:at most|no more than|a maximum of|up to)\s+(?=[\d\\.(-])", re.IGNORECASE), "\\le "),
    (re.compile(r"(?:more|greater|larger|bigger) than\s+(?=[\d\\.(-])", re.IGNORECASE), "> "),
    (re.compile(r"(?:less|fewer|smaller) than\s+(?=[\d\\.(-])", re.IGNORECASE), "< "),
)


def read_relation(tokens: Sequence[Token], read: Callable[[str], Reading]) -> Reading | None:
    """The relation that the tokens are; `read` reads the value after a name. None for anything else."""
    signs = [_RELATIONS[token.text] for token in outside(tokens) if token.text in _RELATIONS]
    if not signs:
        return None
    sides = split(tokens, tuple(_RELATIONS))
    if set(signs) == {"="}:
        if all(_is_name(side) for side in sides[:-1]) and sides[-1]:
            return Named("=".join(joined(side).replace(" ", "") for side in sides[:-1]), read(joined(sides[-1])))
        if len(sides) > 2:
            return None
    interval = _interval(sides, signs)
    if interval is not None:
        return interval
    if len(sides) != 2 or not all(sides):
        return None
    try:
        left, right = parse(sides[0]), parse(sides[1])
    except Unreadable:
        return None
    if signs[0] in (">", "\\ge"):
        left, right = right, left
    return Relation(left, {">": "<", "\\ge": "\\le"}.get(signs[0], signs[0]), right)


def _is_name(tokens: Sequence[Token]) -> bool:
    """Whether the tokens are a name of what is sought: `x`, `AB`, `\\angle ABC`, `f(x)`, `x_1`, `Area`."""
    if not tokens or len(tokens) > 8:
        return False
    place = 0
    named = False
    while place < len(tokens):
        token = tokens[place]
        following = tokens[place + 1].text if place + 1 < len(tokens) else ""
        if token.text == "_" and following:
            closing = next((i for i in range(place, len(tokens)) if tokens[i].text == "}"), place + 1)
            place = (closing if following == "{" else place + 1) + 1
            continue
        if token.kind == WORD or (token.kind == NUMBER and place and tokens[place - 1].text == "\\angle"):
            named = True
        elif token.text not in ("\\angle", "\\triangle", "\\overline", "'", "(", ")", "{", "}", ",", "|", "\\overarc"):
            if (
                token.kind != COMMAND
                or not token.text[1:].isalpha()
                or token.text[1:]
                in ("frac", "sqrt", "pi", "cdot", "times", "pm", "infty", "log", "ln", "sin", "cos", "tan", "div")
            ):
                return False
            named = True
        place += 1
    return named


def _interval(sides: Sequence[Sequence[Token]], signs: Sequence[str]) -> Reading | None:
    """`x > 3`, `1 < x \\le 3`, `3 > x`, `\\ge 5` as intervals."""
    infinite = Quantity(("infinity",))
    below = Quantity(("-", ("number", Fraction(0)), ("infinity",)))
    try:
        if len(sides) == 3 and _is_name(sides[1]):
            if signs[0] in (">", "\\ge") and signs[1] in (">", "\\ge"):
                sides, signs = sides[::-1], [_MIRRORED[sign] for sign in signs[::-1]]
            if not all(sign in ("<", "\\le") for sign in signs):
                return None
            low, high = read_quantity(sides[0]), read_quantity(sides[2])
            return Items(
                ("(" if signs[0] == "<" else "[") + (")" if signs[1] == "<" else "]"), (low, high), joined(sides[1])
            )
        if len(sides) != 2 or signs[0] not in _MIRRORED:
            return None
        name, sign, bound = sides[0], signs[0], sides[1]
        if _is_name(bound) and not _is_name(name):
            name, sign, bound = bound, _MIRRORED[sign], name
        if (name and not _is_name(name)) or not bound or _is_name(bound):
            return None
        limit = read_quantity(bound)
    except Unreadable:
        return None
    if sign in (">", "\\ge"):
        return Items(("(" if sign == ">" else "[") + ")", (limit, infinite), joined(name))
    return Items("(" + (")" if sign == "<" else "]"), (below, limit), joined(name))
