"""A number or an expression with its unit, percent sign or currency."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from difference_feedback.judges.values import algebra
from difference_feedback.judges.values.expressions import Tree, Unreadable, parse
from difference_feedback.judges.values.markup import CURRENCY, plain
from difference_feedback.judges.values.number_words import leading_number
from difference_feedback.judges.values.tokens import NUMBER, SIGN, WORD, Token, tokens_of
from difference_feedback.judges.values.units import CURRENCIES, Unit, named_unit, split_unit, unit_of


@dataclass(frozen=True)
class Quantity:
    """`tree` is the expression; of a number it is `("number", value)`."""

    tree: Tree
    unit: Unit | None = None
    percent: bool = False
    modulus: str = ""

    @property
    def is_number(self) -> bool:
        """Whether the value is an exact number."""
        return bool(self.tree[0] == "number")


_BEFORE = re.compile(
    r"(?:(?:approximately|approx\.?|about|around|roughly|nearly|exactly|only|just|circa|a total of)\s+"
    r"|(?:约|大约|共)\s*|[~≈]\s*|\\(?:approx|sim|simeq)\s*"
    r"|(?:in|by|at|on|(?:the )?year|the|number)\s+(?=\W{0,2}[\d.])|#(?=\d))+",
    re.IGNORECASE,
)
_REPEATING = re.compile(r"(\d*)\.(\d*)(?:\\overline\s*\{(\d+)\}|\\dot\s*\{?(\d)\}?|\((\d+)\)(?!\s*\())")
_ENDLESS = re.compile(r"(\d*\.\d*?)(\d{1,6}?)\2{2,}\s*\.\.\.")
_DECIMAL_COMMA = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+),(\d+)(?![\d.,])")
_POINTS = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3}){2,}(?![\d.,])")
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3})((?:,\d{3})+)(?![\d,]|\.\d*,)")
_INDIAN = re.compile(r"(?<![\d.,])(\d{1,2}(?:,\d{2})+,\d{3})(?![\d,])")
_SPACED = re.compile(r"(?<![\d.,/])(?<![\d.,/] )(\d{1,3})((?: \d{3})+)(?![\d/]| \d)")
_COUNTERS = tuple("个只条张本名位人次颗块朵棵辆支枝根件把岁种面")
_MODULUS = re.compile(r"\s*(?:\\pmod\s*\{?\s*(\w+)\s*\}?|\(?\s*\\?b?mod\s*\{?\s*(\w+)\s*\}?\s*\)?)$")


def without_separators(text: str) -> str:
    """Numbers without signs between thousands. A comma in brackets, as in `(3,100)`, separates two numbers."""
    if "," in text and _comma_in_brackets(text):
        return text
    text = _DECIMAL_COMMA.sub(lambda m: m[1].replace(".", "") + "." + m[2], text)
    text = _POINTS.sub(lambda m: m[0].replace(".", ""), text)
    for pattern in (_THOUSANDS, _INDIAN):
        text = pattern.sub(lambda m: m[0].replace(",", ""), text)
    return _SPACED.sub(lambda m: m[0].replace(" ", ""), text)


def _comma_in_brackets(text: str) -> bool:
    level = 0
    for sign in re.findall(r"[(\[]|\\\{|\\langle|[)\]]|\\\}|\\rangle|,", text):
        if sign == "," and level > 0:
            return True
        level += (sign in ("(", "[", "\\{", "\\langle")) - (sign in (")", "]", "\\}", "\\rangle"))
    return False


def without_hedge(text: str) -> str:
    """The text without an "about" or "in" before it."""
    return _BEFORE.sub("", text, count=1) if _BEFORE.match(text) else text


def repeating_as_fractions(text: str) -> str:
    r"""Repeating decimals, `0.\overline{3}` and `0.333...`, as fractions."""
    text = _ENDLESS.sub(lambda m: f"{m[1]}\\overline{{{m[2]}}}", text)
    return _REPEATING.sub(_repeating, text)


def _repeating(match: re.Match[str]) -> str:
    whole, start, repeated = match[1] or "0", match[2], match[3] or match[4] or match[5]
    bottom = 10 ** len(start) * (10 ** len(repeated) - 1)
    value = Fraction(int(whole + start) * (10 ** len(repeated) - 1) + int(repeated), bottom)
    return f"({value.numerator}/{value.denominator})"


def modulus_of(text: str) -> tuple[str, str]:
    """The text before a modulus, and the modulus; `""` without one."""
    match = _MODULUS.search(text)
    return (text[: match.start()], match[1] or match[2]) if match and match.start() else (text, "")


def read_quantity(tokens: Sequence[Token], modulus: str = "") -> Quantity:
    """The quantity that all tokens are. Raises `Unreadable`."""
    total = _compound(tokens)
    if total is not None:
        return total
    tokens, currency = _currency(tokens)
    tokens, percent = _percent(tokens)
    tokens = _words_as_number(tokens)
    rest, unit = split_unit(tokens)
    if unit is None and len(tokens) > 1 and tokens[-1].text in ("'", '"') and tokens[-2].kind == NUMBER:
        rest, unit = tokens[:-1], named_unit("ft" if tokens[-1].text == "'" else "in")
    if rest and rest[-1].text == "%":
        rest, percent = rest[:-1], True
    if currency is not None and unit is not None and not unit.agrees(currency):
        raise Unreadable("a currency and a unit")
    if unit is not None and unit.nouns and all(token.kind != NUMBER for token in rest):
        raise Unreadable("words")
    tree = parse(rest)
    if tree[0] == "-" and tree[1] == ("number", 0) and tree[2][0] == "number":
        tree = ("number", -tree[2][1])
    elif not algebra.names_of(tree) and tree[0] != "number" and not algebra.has(tree, "±"):
        value = algebra.value_of(tree) if tree != ("infinity",) and not algebra.has(tree, "infinity") else None
        tree = ("number", value) if isinstance(value, Fraction) else tree
    return Quantity(tree, unit or currency, percent, modulus)


def number_of(text: str, unit: str = "") -> Fraction | float | None:
    """The real number that an answer is (after `x =`); in `unit` where that and the answer's unit are of one kind.

    `unit` is a unit or a quantity, such as `m` or `5 m`. None when the answer is no number, or one in a unit of another
    kind. Raises `Unreadable`.
    """
    text = without_separators(repeating_as_fractions(without_hedge(plain(text).rpartition("=")[2].strip())))
    quantity = read_quantity(tokens_of(text))
    if algebra.names_of(quantity.tree) or algebra.has(quantity.tree, "±"):
        return None
    value = algebra.value_of(quantity.tree)
    named = _unit_in(CURRENCY if unit == "$" else plain(unit)) if unit else None
    if named and quantity.unit and (quantity.unit.powers or named.nouns):
        if not named.agrees(quantity.unit):
            return None
        value = value * quantity.unit.factor / named.factor if isinstance(value, Fraction) else value
    if isinstance(value, Fraction):
        return value
    return float(value.real) if abs(value.imag) == 0 else None


def _unit_in(text: str) -> Unit | None:
    """The unit that a text is or has."""
    tokens = tokens_of(text)
    try:
        return unit_of(tokens) or read_quantity(tokens).unit
    except Unreadable:
        return None


def _words_as_number(tokens: Sequence[Token]) -> Sequence[Token]:
    """The same tokens with a number in words at the start as one token."""
    if len(tokens) > 1 and tokens[0].text.lower() == "the":
        tokens = tokens[1:]
    start = 1 if tokens and tokens[0].text.lower() in ("-", "minus", "negative") else 0
    if start < len(tokens) and tokens[start].kind == WORD and not tokens[start].text.isascii():
        tokens = [*tokens[:start], *_split_chinese(tokens[start]), *tokens[start + 1 :]]
    number = leading_number(tokens[start:])
    sign = [Token(SIGN, "-")] if start else []
    if number is None:
        return [*sign, *tokens[1:]] if start else tokens
    value, count = number
    rest = list(tokens[start + count :])
    if value.denominator == 1:
        return [*sign, Token(NUMBER, str(value.numerator)), *rest]
    parts = [Token(NUMBER, str(value.numerator)), Token(SIGN, "/"), Token(NUMBER, str(value.denominator))]
    return [*sign, Token(SIGN, "("), *parts, Token(SIGN, ")"), *rest]


def _split_chinese(token: Token) -> list[Token]:
    match = re.match("[零〇一二三四五六七八九十百千万亿两]+", token.text)
    rest = token.text[match.end() :] if match else ""
    if not match or not rest or (named_unit(rest) is None and rest not in _COUNTERS):  # 三角形 is a triangle
        return [token]
    return [Token(WORD, match[0], token.spaced), Token(WORD, token.text[match.end() :])]


def _currency(tokens: Sequence[Token]) -> tuple[Sequence[Token], Unit | None]:
    """A currency before the number."""
    start = 0
    while start < len(tokens) and tokens[start].text in CURRENCIES:
        start += 1
    if not start or start >= len(tokens):
        return tokens, None
    unit = named_unit(tokens[start - 1].text)
    if tokens[start].text == "." and len(tokens) > start + 1:  # Rs. 50
        start += 1
    return tokens[start:], unit


def _percent(tokens: Sequence[Token]) -> tuple[Sequence[Token], bool]:
    words = [token.text.lower() for token in tokens[-2:]]
    if words[-1:] in (["%"], ["percent"], ["percentage"]):
        return tokens[:-1], True
    if words in (["percentage", "points"], ["percent", "points"], ["per", "cent"], ["percentage", "point"]):
        return tokens[:-2], True
    return tokens, False


def _compound(tokens: Sequence[Token]) -> Quantity | None:
    """`5 ft 3 in`, `1 hour 30 minutes`, `30°15'`: numbers with units of one kind, from large to small."""
    starts = [i for i, token in enumerate(tokens) if token.kind == NUMBER]
    if not 2 <= len(starts) <= 3 or starts[0] != 0 or any(b - a < 2 for a, b in pairwise(starts)):
        return None
    total = Fraction(0)
    units: list[Unit] = []
    for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
        part = [token for token in tokens[start + 1 : end] if token.text not in ("and", ",")]
        unit = _small_unit(part, units)
        if unit is None or not re.fullmatch(r"[\d.]+", tokens[start].text):
            return None
        if units and not (unit.powers == units[0].powers and unit.factor < units[-1].factor):
            return None
        units.append(unit)
        total += Fraction(tokens[start].text) * unit.factor
    return Quantity(("number", total / units[0].factor), units[0])


def _small_unit(tokens: Sequence[Token], before: Sequence[Unit]) -> Unit | None:
    """A unit of the table; `'` and `"` are feet and inches, or after degrees their minutes and seconds."""
    if len(tokens) != 1:
        return None
    if tokens[0].text in ("'", '"'):
        angle = bool(before) and before[0] == named_unit("°")
        names = ("arcminute", "arcsecond") if angle else ("ft", "in")
        return named_unit(names[0] if tokens[0].text == "'" else names[1])
    if tokens[0].text == "m" and before and before[-1] == named_unit("h"):
        return named_unit("min")  # 2h 48m
    return named_unit(tokens[0].text)
