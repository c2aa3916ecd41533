"""The kinds of values that a final answer may have."""

from dataclasses import dataclass, field
from fractions import Fraction

from difference_feedback.judges.values.dates import Date, TimeOfDay
from difference_feedback.judges.values.expressions import Tree
from difference_feedback.judges.values.quantities import Quantity
from difference_feedback.judges.values.tokens import Token


@dataclass(frozen=True)
class Text:
    """An answer, or an item of a list, that is compared as a text alone."""

    tokens: tuple[Token, ...]


@dataclass(frozen=True)
class Items:
    """Several values. `brackets`: `""` of a list without any, `or`, `(]`, `{}`, ... ; rows of a matrix are Items."""

    brackets: str
    items: tuple["Reading", ...]
    label: str = ""

    @property
    def ordered(self) -> bool:
        """Whether the order of the items counts."""
        return self.brackets not in ("", "or", "{}")


@dataclass(frozen=True)
class Range:
    """Two numbers with a dash or `to` between them: a range, or a score."""

    first: Fraction
    last: Fraction
    in_words: bool = field(default=False, compare=False)


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
