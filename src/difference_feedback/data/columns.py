"""Columns by their names: in any spelling, by number, and those that hold one option each."""

import re
from collections.abc import Sequence
from functools import lru_cache
from string import ascii_uppercase

from difference_feedback.data.cells import RowValues, has_column, is_filled

_SERIES = re.compile(
    r"(?P<stem>(?:answer[ _-]?)?(?:option|opt|choice|candidate)s?[ _-]?|a(?=\d))?(?P<label>[a-z]|\d{1,2})",
    re.IGNORECASE,
)


def columns_like(row: RowValues, column: str) -> list[str]:
    """The row's columns that a name or a pattern such as `image_*` means, by their number.

    `image` means `image_2`, `image_3`, ..., too, if there is no `image_1`.
    """
    if "*" in column:
        before, _, after = column.partition("*")
        return [name for _, name in _numbered(tuple(row), before, after)]
    if column not in row and ("." not in column or not has_column(row, column)):
        return []
    if column in row and not column[-1:].isdigit():
        for before in (f"{column}_", column):
            more = _numbered(tuple(row), before, "")
            if more and more[0][0] == 2:
                return [column, *(name for _, name in more)]
    return [column]


@lru_cache(maxsize=4096)
def _numbered(names: tuple[str, ...], before: str, after: str) -> list[tuple[int, str]]:
    stem = re.escape(before.rstrip("_")) + r"[\s_-]?" * before.endswith("_")
    pattern = re.compile(stem + r"([0-9]{1,4})" + re.escape(after), re.IGNORECASE)
    return sorted((int(match[1]), name) for name in names if (match := pattern.fullmatch(name)))


@lru_cache(maxsize=4096)
def key_of(name: str) -> str:
    """A column's name without capitals, blanks, dashes and underscores."""
    return re.sub(r"[\s_\-]+", "", name.casefold())


def series_of_options(sample: Sequence[RowValues]) -> tuple[tuple[str, ...], int | None]:
    """The longest series of columns `A`, `B`, ..., `option_1`, ..., or `a0`, ...; nothing without one.

    Its second part is the number of the first one, if they have numbers.
    At least two columns are filled in one row of the sample. Letters without a word before them are capitals.
    """
    series: dict[tuple[str, bool], dict[str, str]] = {}
    for name in dict.fromkeys(name for row in sample for name in row):
        match = _SERIES.fullmatch(name)
        if match and (match["stem"] or match["label"] in ascii_uppercase):
            stem = re.sub(r"[\s_-]", "", (match["stem"] or "").casefold())
            of_stem = series.setdefault((stem, match["label"].isdigit()), {})
            of_stem.setdefault(match["label"].upper().lstrip("0") or "0", name)
    best: tuple[tuple[str, ...], int | None] = ((), None)
    for (_, has_numbers), of_stem in series.items():
        first = 0 if "0" in of_stem else 1
        labels = [str(first + i) for i in range(26)] if has_numbers else list(ascii_uppercase)
        length = next((i for i, label in enumerate(labels) if label not in of_stem), len(labels))
        names = tuple(of_stem[label] for label in labels[:length])
        filled = max((sum(is_filled(row.get(name)) for name in names) for row in sample), default=0)
        if filled > 1 and length > len(best[0]):
            best = names, first if has_numbers else None
    return best
