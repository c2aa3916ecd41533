"""Whether two final answers have the same value, and which rule decided."""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from difference_feedback.judges.values import algebra
from difference_feedback.judges.values.dates import Date, TimeOfDay
from difference_feedback.judges.values.expressions import Tree, Unreadable
from difference_feedback.judges.values.kinds import Items, Named, Range, Ratio, Reading, Relation, Text, Union
from difference_feedback.judges.values.markup import plain
from difference_feedback.judges.values.quantities import Quantity
from difference_feedback.judges.values.readings import readings_of
from difference_feedback.judges.values.tokens import Token, same_text, tokens_of

_UNORDERED = 16  # items of a list without order; longer ones must have the same order
_TEXT = 2000  # characters of a text that is compared at all


class Comparison(NamedTuple):
    """Whether two answers are equal, and the rule that says so."""

    equal: bool
    rule: str


@lru_cache(maxsize=65_536)
def compare(answer: str, truth: str) -> Comparison:
    """Compare two final answers as they are written."""
    if answer.split() == truth.split():
        return Comparison(bool(truth.strip()), "text")
    if max(len(answer), len(truth)) > _TEXT:
        return Comparison(False, "too long")
    (first, answers), (second, truths) = read(answer), read(truth)
    if same_text(first, second):
        return Comparison(True, "text")
    rule = "none" if answers and truths else "too long"
    for a in answers:
        for b in truths:
            try:
                same, kind = _same(a, b)
            except Unreadable as error:
                rule = "too large" if "too" in str(error) else rule
                continue
            if same:
                return Comparison(True, kind)
            rule = kind if rule == "none" and kind != "text" else rule
    return Comparison(False, rule)


@lru_cache(maxsize=16_384)
def read(text: str) -> tuple[tuple[Token, ...], tuple[Reading, ...]]:
    """The tokens of an answer, and the values that it can be read as; no values when it is too long."""
    text = plain(text)
    return tokens_of(text), tuple(readings_of(text))


def _same(a: Reading, b: Reading) -> tuple[bool, str]:
    if isinstance(a, Named) or isinstance(b, Named):
        return _same_named(a, b)
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        return _same_quantity(a, b)
    if isinstance(a, Items) and isinstance(b, Items):
        return _same_items(a, b), "list"
    if isinstance(a, TimeOfDay) and isinstance(b, TimeOfDay):
        return a.same(b), "time"
    if isinstance(a, Date) and isinstance(b, Date):
        return a == b, "date"
    if isinstance(a, Range) and isinstance(b, Range):
        return a == b, "range"
    if isinstance(a, Range) and isinstance(b, Ratio):  # 3 to 5
        return a.in_words and b.parts == (a.first, a.last), "ratio"
    if isinstance(a, Ratio) and isinstance(b, Range):
        return _same(b, a)
    if isinstance(a, Ratio) and isinstance(b, Ratio):
        return _same_ratio(a, b), "ratio"
    if isinstance(a, Relation) and isinstance(b, Relation):
        return _same_relation(a, b), "equation"
    if isinstance(a, Union) and isinstance(b, Union):
        return _same_items(Items("{}", a.parts), Items("{}", b.parts)), "list"
    if isinstance(a, Text) and isinstance(b, Text):
        return same_text(a.tokens, b.tokens), "text"
    same = _same_of_two_kinds(a, b) or _same_of_two_kinds(b, a)
    return same, "number" if same else "none"


def _same_of_two_kinds(a: Reading, b: Reading) -> bool:
    """A ratio and its quotient; `±3` and `3, -3`; a set of one and its element."""
    if isinstance(a, Ratio) and isinstance(b, Quantity):
        if len(a.parts) != 2 or b.unit or not b.is_number or not a.parts[1] or b.tree[1].denominator == 1:
            return False  # 2:1 is not 2
        return bool(b.tree[1] == a.parts[0] / a.parts[1])
    if isinstance(a, Union) and isinstance(b, Items):  # x < 1 or x > 2
        return b.brackets in ("or", "{}") and _same_items(Items("{}", a.parts), b)
    if isinstance(a, Items) and isinstance(b, Quantity):
        if algebra.has(b.tree, "±"):
            values = tuple(Quantity(tree, b.unit) for tree in algebra.both_signs(b.tree))
            return not a.ordered and _same_items(Items("", a.items), Items("", values))
        return a.brackets == "{}" and len(a.items) == 1 and _same(a.items[0], b)[0]
    return False


def _same_named(a: Reading, b: Reading) -> tuple[bool, str]:
    if isinstance(a, Named) and isinstance(b, Named):
        if a.name == b.name:
            return _same(a.value, b.value)
        sides = [_as_relation(side) for side in (a, b)]
        return (_same_relation(sides[0], sides[1]) if sides[0] and sides[1] else False), "equation"
    named, other = (a, b) if isinstance(a, Named) else (b, a)
    assert isinstance(named, Named)
    if isinstance(other, Relation):
        relation = _as_relation(named)
        return relation is not None and _same_relation(relation, other), "equation"
    return _same(named.value, b) if named is a else _same(a, named.value)


def _as_relation(named: Named) -> Relation | None:
    value = named.value
    if len(named.name) != 1 or not isinstance(value, Quantity) or value.unit:
        return None
    return Relation(("name", named.name), "=", value.tree)


def _same_quantity(a: Quantity, b: Quantity) -> tuple[bool, str]:
    """Equal values, with units that agree if both have one. `50 %` equals `50` and `0.5`: data sets write either."""
    rule = "number" if a.is_number and b.is_number else "expression"
    if (a.percent and b.unit) or (a.unit and b.percent):
        return False, rule
    if (a.unit and b.unit and not a.unit.agrees(b.unit)) or (a.modulus and b.modulus and a.modulus != b.modulus):
        return False, rule
    if "infinity" in (a.tree[0], b.tree[0]) or algebra.has(a.tree, "infinity") or algebra.has(b.tree, "infinity"):
        return a.tree == b.tree, rule
    if algebra.has(a.tree, "±") or algebra.has(b.tree, "±"):
        pairs = [[Quantity(tree) for tree in algebra.both_signs(side.tree)] for side in (a, b)]
        return len(pairs[0]) == len(pairs[1]) and _matched(pairs[0], pairs[1]), rule
    first, second = (
        _scaled(a, a.unit.factor if b.unit and a.unit else 1),
        _scaled(b, b.unit.factor if a.unit and b.unit else 1),
    )
    if _equal_trees(first, second):
        return True, rule
    if a.percent == b.percent:
        return False, rule
    hundredth = Fraction(1, 100)
    return _equal_trees(_scaled(a, hundredth if a.percent else 1), _scaled(b, hundredth if b.percent else 1)), rule


def _scaled(quantity: Quantity, factor: Fraction | int) -> Tree:
    """The quantity's expression times a factor."""
    tree = quantity.tree
    if factor == 1:
        return tree
    return ("number", tree[1] * factor) if quantity.is_number else ("*", tree, ("number", Fraction(factor)))


def _equal_trees(a: Tree, b: Tree) -> bool:
    return bool(a[1] == b[1]) if a[0] == b[0] == "number" else algebra.equal(a, b)


def _same_ratio(a: Ratio, b: Ratio) -> bool:
    """Equal quotients. With minutes after the colon (`10:20`) a ratio would be a time, which `readings` has read."""
    if len(a.parts) != len(b.parts):
        return False
    return all(x * b.parts[0] == y * a.parts[0] for x, y in zip(a.parts, b.parts, strict=True)) and any(a.parts)


def _same_relation(a: Relation, b: Relation) -> bool:
    """The difference of the sides is the same but for a factor: the same equation, or inequality.

    An equation is not its solution: `2x = 4` is not `x = 2`.
    """
    if a.sign != b.sign or _is_solved(a) != _is_solved(b):
        return False
    first, second = ("-", a.left, a.right), ("-", b.left, b.right)
    return algebra.proportional(first, second, positive=a.sign in ("<", "\\le"))


def _is_solved(relation: Relation) -> bool:
    """Whether a relation says what one variable is."""
    sides = (relation.left, relation.right)
    return any(side[0] == "name" for side in sides) and not all(algebra.names_of(side) for side in sides)


def _same_items(a: Items, b: Items) -> bool:
    if len(a.items) != len(b.items) or (a.label and b.label and a.label != b.label):
        return False
    in_order = all(_same(x, y)[0] for x, y in zip(a.items, b.items, strict=True))
    if "()" in (a.brackets, b.brackets) and "" in (a.brackets, b.brackets):
        return in_order  # a tuple written without its brackets
    kinds = {a.brackets, b.brackets}
    if len(kinds) > 1 and not kinds <= {"", "or", "{}"}:
        return False
    if len(kinds) > 1 and "or" in kinds and any(isinstance(item, Text) for item in a.items):
        return False  # "red or blue" is not "red and blue"; of numbers both are the solutions
    named = [len({item.name for item in side.items if isinstance(item, Named)}) > 1 for side in (a, b)]
    endless = any(isinstance(item, Text) and "..." in (t.text for t in item.tokens) for item in a.items)
    if a.ordered or endless or named[0] != named[1]:  # `x = 3, y = 4` is `3, 4`
        return in_order
    return in_order or (len(a.items) <= _UNORDERED and _matched(list(a.items), list(b.items)))


def _matched(first: Sequence[Reading], second: Sequence[Reading]) -> bool:
    """Whether each element of one has an equal one of its own in the other."""
    rest = list(second)
    for a in first:
        place = next((i for i, b in enumerate(rest) if _same(a, b)[0]), None)
        if place is None:
            return False
        del rest[place]
    return not rest
