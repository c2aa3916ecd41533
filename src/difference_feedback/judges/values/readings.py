"""The values that a final answer can be read as: most have one, `1,200` has two (a number, a list)."""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

from difference_feedback.judges.values.brackets import CLOSE, OPEN, enclosed, joined, split
from difference_feedback.judges.values.dates import looks_like_date, read_clock, read_date
from difference_feedback.judges.values.expressions import Unreadable
from difference_feedback.judges.values.kinds import Items, Range, Ratio, Reading, Text, Union
from difference_feedback.judges.values.number_words import leading_number
from difference_feedback.judges.values.quantities import (
    Quantity,
    modulus_of,
    read_quantity,
    repeating_as_fractions,
    without_hedge,
    without_separators,
)
from difference_feedback.judges.values.relations import WORD_RELATIONS, read_relation
from difference_feedback.judges.values.tokens import COMMAND, WORD, Token, tokens_of

LONGEST = 600  # characters of an answer that is read as more than a text
_ITEMS = 64
_DEEPEST = 4


_KINDS = {"\\{": "{", "\\}": "}", "\\langle": "(", "\\rangle": ")"}
_MATRIX = re.compile(r"\\begin\s*\{([pbvBV]?matrix|array)\}(?:\s*\{[lcr| ]*\})?(.*)\\end\s*\{\1\}", re.DOTALL)
_RANGE = re.compile(r"(?:from |between )?(\d+(?:\.\d+)?) ?(?:-|to|and) ?(\d+(?:\.\d+)?)")
_RATIO = re.compile(r"\d+(?:\.\d+)?(?:\s*:\s*\d+(?:\.\d+)?){1,4}")


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
        yield Text(tokens_of(text))
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
    for pattern, sign in WORD_RELATIONS:
        start = pattern.match(text)
        text = sign + text[start.end() :] if start else text
    yielded = False
    for reading in _structures(text, depth):
        yielded = True
        yield reading
    if not yielded:
        yield Text(tokens_of(text))


def _pair(text: str, first: Fraction, last: Fraction) -> Iterator[Reading]:
    if "and" in text:
        yield Items("", (Quantity(("number", first)), Quantity(("number", last))))
        return
    yield Range(first, last, "to" in text)


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
    relation = read_relation(tokens, lambda value: _first(value, depth + 1))
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
    parts = split(tokens, (",", ";", "and", "or", "\\cr"))
    if 1 < len(parts) <= _ITEMS and all(parts):
        items = [_first(joined(part), depth + 1) for part in parts]
        yield Items("or" if any(token.text == "or" for token in tokens) else "", tuple(items))


def _separated(tokens: Sequence[Token]) -> bool:
    """Whether there are several values. The "and" in `one hundred and five` separates none."""
    number = leading_number(tokens)
    tokens = tokens[number[1] :] if number else tokens
    return len(split(tokens, (",", ";", "and", "or"))) > 1


def _first(text: str, depth: int) -> Reading:
    return next(readings_of(text, depth), Text(tokens_of(text)))


def _matrix(content: str, depth: int) -> Reading:
    rows = [row for row in content.split("\\cr") if row.strip()]
    items = tuple(
        Items("()", tuple(_first(cell.strip(), depth + 1) for cell in row.split("&"))) for row in rows[:_ITEMS]
    )
    if all(len(row.items) == 1 for row in items):  # a column is a vector
        return Items("()", tuple(row.items[0] for row in items))
    return items[0] if len(items) == 1 else Items("[]", items, label="matrix")


def _bracketed(tokens: Sequence[Token], text: str, depth: int) -> Reading | None:
    unions = split(tokens, ("\\cup",))
    if len(unions) > 1:
        parts = [_bracketed(part, joined(part), depth + 1) for part in unions[:_ITEMS]]
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
    if len(tokens) < 2 or tokens[0].text not in OPEN or tokens[-1].text not in CLOSE or not enclosed(tokens):
        return None
    brackets = _KINDS.get(tokens[0].text, tokens[0].text) + _KINDS.get(tokens[-1].text, tokens[-1].text)
    inner = split(tokens[1:-1], (",", ";"))
    grouping = tokens[0].text == "{" and len(inner) < 2  # {3} is 3, {3, 5} is a set
    if grouping or len(inner) > _ITEMS or not all(inner):
        return None
    if len(inner) == 1 and brackets in ("()", "[]"):
        return None if brackets == "()" else _first(joined(inner[0]), depth + 1)
    items = tuple(_first(joined(part), depth + 1) for part in inner)
    return Items(brackets, items, label)
