"""The values that a final answer can be read as: most have one, `1,200` has two (a number, a list)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from difference_feedback.judges.values.dates import Date, TimeOfDay, looks_like_date, read_clock, read_date
from difference_feedback.judges.values.expressions import Tree, Unreadable, parse
from difference_feedback.judges.values.number_words import leading_number
from difference_feedback.judges.values.quantities import (
    Quantity,
    modulus_of,
    read_quantity,
    repeating_as_fractions,
    without_hedge,
    without_separators,
)
from difference_feedback.judges.values.tokens import COMMAND, NUMBER, WORD, Token, tokens_of

LONGEST = 600  # characters of an answer that is read as more than a text
_ITEMS = 64
_DEEPEST = 4


@dataclass(frozen=True)
class Text:
    """An answer, or an item of a list, that is compared as a text alone."""

    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class Items:
    """Several values. `brackets`: `""` of a list without any, `(]`, `{}`, ... ; `rows` of a matrix are Items."""

    brackets: str
    items: tuple["Reading", ...]
    label: str = ""

    @property
    def ordered(self) -> bool:
        return self.brackets not in ("", "{}")


@dataclass(frozen=True)
class Range:
    """Two numbers with a dash or `to` between them: a range, or a score."""

    first: Fraction
    last: Fraction


@dataclass(frozen=True)
class Ratio:
    """`2:3`, `1:2:3`."""

    parts: tuple[Fraction, ...]


@dataclass(frozen=True)
class Named:
    """A value with the name it is given: `x = 3`."""

    name: str
    value: "Reading"


@dataclass(frozen=True)
class Relation:
    """An equation or inequality with two sides: `left sign right`, where the sign is `=`, `<`, `\\le` or `\\ne`."""

    left: Tree
    sign: str
    right: Tree


@dataclass(frozen=True)
class Union:
    """A union of intervals or sets."""

    parts: tuple["Reading", ...]


Reading = Text | Items | Range | Ratio | Named | Relation | Union | Quantity | TimeOfDay | Date

_OPEN, _CLOSE = ("(", "[", "{", "\\{", "\\langle"), (")", "]", "}", "\\}", "\\rangle")
_KINDS = {"\\{": "{", "\\}": "}", "\\langle": "(", "\\rangle": ")"}
_MATRIX = re.compile(r"\\begin\s*\{([pbvBV]?matrix|array)\}(?:\s*\{[lcr| ]*\})?(.*)\\end\s*\{\1\}", re.DOTALL)
_RANGE = re.compile(r"(?:from |between )?(\d+(?:\.\d+)?) ?(?:-|to|and) ?(\d+(?:\.\d+)?)")
_RATIO = re.compile(r"\d+(?:\.\d+)?(?:\s*:\s*\d+(?:\.\d+)?){1,4}")
_RELATIONS = {"<": "<", ">": ">", "\\le": "\\le", "\\ge": "\\ge", "=": "=", "\\ne": "\\ne"}
_MIRRORED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
_WORD_RELATIONS = (
    (re.compile(r"(?:at least|no less than|a minimum of)\s+(?=[\d\\.(-])", re.IGNORECASE), "\\ge "),
    (re.compile(r"(?:at most|no more than|a maximum of|up to)\s+(?=[\d\\.(-])", re.IGNORECASE), "\\le "),
    (re.compile(r"(?:more|greater|larger|bigger) than\s+(?=[\d\\.(-])", re.IGNORECASE), "> "),
    (re.compile(r"(?:less|fewer|smaller) than\s+(?=[\d\\.(-])", re.IGNORECASE), "< "),
)
_ALL = re.compile(r"(?:[a-zA-Z]\s*\\in\s*)?(?:\\?mathbb|\\?R)$")


def readings_of(text: str, depth: int = 0) -> Iterator[Reading]:
    """The values that a `markup.plain` text can be read as, the likeliest first. A text that is none is a `Text`."""
    if len(text) > LONGEST or depth > _DEEPEST:
        return
    clock, date = read_clock(text), read_date(text)
    if clock or date:
        yield clock or date  # type: ignore[misc]
        if text.count(":") != 2:  # 10:20 is no ratio; 5:10:15 may be one
            return
    if looks_like_date(text):
        yield Text(tuple(tokens_of(text)))
        return
    text = repeating_as_fractions(without_hedge(text))
    ratio, pair = _RATIO.fullmatch(text), _RANGE.fullmatch(text)
    if ratio:
        yield Ratio(tuple(Fraction(part.strip()) for part in text.split(":")))
        return
    if pair and not text.startswith("between "):
        yield from _pair(text, Fraction(pair[1]), Fraction(pair[2]))
        return
    if pair:
        yield Range(Fraction(pair[1]), Fraction(pair[2]))
        return
    for pattern, sign in _WORD_RELATIONS:
        start = pattern.match(text)
        text = sign + text[start.end() :] if start else text
    yielded = False
    for reading in _structures(text, depth):
        yielded = True
        yield reading
    if not yielded:
        yield Text(tuple(tokens_of(text)))


def _pair(text: str, first: Fraction, last: Fraction) -> Iterator[Reading]:
    if "and" in text:
        yield Items("", (Quantity(("number", first)), Quantity(("number", last))))
        return
    yield Range(first, last)


def _structures(text: str, depth: int) -> Iterator[Reading]:
    matrix = _MATRIX.fullmatch(text)
    if matrix:
        yield _matrix(matrix[2], depth)
        return
    bare, modulus = modulus_of(text)
    number = without_separators(bare)
    if number != bare or not _separated(tokens_of(bare)):
        reading = _single(number, modulus, depth)
        if reading is not None:
            yield reading
            if number == bare:
                return
    comma = re.fullmatch(r"(-?\d+),(\d{1,2}|\d{4,})( ?[A-Za-z°%€][A-Za-z/^\d]*)?", bare)
    if comma:  # 3,5 may be a decimal
        decimal = _single(f"{comma[1]}.{comma[2]}{comma[3] or ''}", modulus, depth)
        if decimal is not None:
            yield decimal
    yield from _several(text, depth)


def _single(text: str, modulus: str, depth: int) -> Reading | None:
    """A quantity, a named value, a relation, an interval or a bracketed list."""
    tokens = tokens_of(text)
    relation = _relation(tokens, text, depth)
    if relation is not None:
        return relation
    bracketed = _bracketed(tokens, text, depth)
    if bracketed is not None:
        return bracketed
    try:
        return read_quantity(tokens, modulus)
    except Unreadable:
        return None


def _several(text: str, depth: int) -> Iterator[Reading]:
    tokens = tokens_of(text)
    parts = _split(tokens, (",", ";", "and", "or", "\\land", "\\lor", "\\cr"))
    if 1 < len(parts) <= _ITEMS and all(parts):
        items = [_first(_joined(part), depth + 1) for part in parts]
        yield Items("{}" if any(token.text in ("or", "\\lor") for token in tokens) else "", tuple(items))


def _separated(tokens: Sequence[Token]) -> bool:
    """Whether there are several values. The "and" in `one hundred and five` separates none."""
    number = leading_number(tokens)
    tokens = tokens[number[1] :] if number else tokens
    return len(_split(tokens, (",", ";", "and", "or"))) > 1


def _first(text: str, depth: int) -> Reading:
    return next(readings_of(text, depth), Text(tuple(tokens_of(text))))


def _split(tokens: Sequence[Token], separators: tuple[str, ...]) -> list[list[Token]]:
    """The parts between separators that stand outside all brackets."""
    parts: list[list[Token]] = [[]]
    level = 0
    for token in tokens:
        level += (token.text in _OPEN) - (token.text in _CLOSE)
        if level <= 0 and token.text.lower() in separators:
            if parts[-1] or token.text not in ("and", "or"):  # "1, and 2"
                parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _joined(tokens: Sequence[Token]) -> str:
    return "".join(
        (" " if t.spaced or (t.kind in (WORD, COMMAND) and i and tokens[i - 1].kind == COMMAND) else "") + t.text
        for i, t in enumerate(tokens)
    ).strip()


def _matrix(content: str, depth: int) -> Reading:
    rows = [row for row in content.split("\\cr") if row.strip()]
    items = tuple(
        Items("()", tuple(_first(cell.strip(), depth + 1) for cell in row.split("&"))) for row in rows[:_ITEMS]
    )
    if all(len(row.items) == 1 for row in items):  # a column is a vector
        return Items("()", tuple(row.items[0] for row in items))
    return items[0] if len(items) == 1 else Items("[]", items, label="matrix")


def _bracketed(tokens: Sequence[Token], text: str, depth: int) -> Reading | None:
    unions = _split(tokens, ("\\cup",))
    if len(unions) > 1:
        parts = [_bracketed(part, _joined(part), depth + 1) for part in unions[:_ITEMS]]
        return Union(tuple(part for part in parts if part)) if all(parts) else None
    if len(tokens) > 2 and tokens[1].text == "\\in" and tokens[0].kind in (WORD, COMMAND):
        return _bracketed(tokens[2:], text, depth)
    if [token.text for token in tokens] in (["\\emptyset"], ["\\{", "\\}"]) or text.lower() == "empty set":
        return Items("{}", ())
    label = ""
    if (
        len(tokens) > 3
        and tokens[0].kind == WORD
        and len(tokens[0].text) == 1
        and tokens[0].text.isupper()
        and tokens[1].text == "("
    ):
        label, tokens = tokens[0].text, tokens[1:]
    if len(tokens) < 2 or tokens[0].text not in _OPEN or tokens[-1].text not in _CLOSE or not _enclosed(tokens):
        return None
    brackets = _KINDS.get(tokens[0].text, tokens[0].text) + _KINDS.get(tokens[-1].text, tokens[-1].text)
    inner = _split(tokens[1:-1], (",", ";"))
    if tokens[0].text == "{" or len(inner) > _ITEMS or not all(inner):
        return None
    if len(inner) == 1 and brackets in ("()", "[]"):
        return None if brackets == "()" else _first(_joined(inner[0]), depth + 1)
    items = tuple(_first(_joined(part), depth + 1) for part in inner)
    return Items(brackets, items, label)


def _enclosed(tokens: Sequence[Token]) -> bool:
    """Whether the first bracket is closed by the last token and not before."""
    level = 0
    for place, token in enumerate(tokens):
        level += (token.text in _OPEN) - (token.text in _CLOSE)
        if level == 0:
            return place == len(tokens) - 1
    return False


def _relation(tokens: Sequence[Token], text: str, depth: int) -> Reading | None:
    signs = [token.text for token in _outside(tokens) if token.text in _RELATIONS]
    if not signs:
        return None
    sides = _split(tokens, tuple(_RELATIONS))
    if set(signs) == {"="}:
        if all(_is_name(side) for side in sides[:-1]) and sides[-1]:
            return Named(
                "=".join(_joined(side).replace(" ", "") for side in sides[:-1]), _first(_joined(sides[-1]), depth + 1)
            )
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


def _outside(tokens: Sequence[Token]) -> Iterator[Token]:
    level = 0
    for token in tokens:
        level += (token.text in _OPEN) - (token.text in _CLOSE)
        if level <= 0:
            yield token


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
                ("(" if signs[0] == "<" else "[") + (")" if signs[1] == "<" else "]"), (low, high), _joined(sides[1])
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
        return Items(("(" if sign == ">" else "[") + ")", (limit, infinite), _joined(name))
    return Items("(" + (")" if sign == "<" else "]"), (below, limit), _joined(name))
