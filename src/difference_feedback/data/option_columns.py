"""Columns that hold one option each: `A`, `B`, ..., `option_1`, `option_2`, ..., `a0`, `a1`, ..."""

import re
from collections.abc import Sequence
from string import ascii_uppercase

from difference_feedback.data.cells import RowValues, is_filled

_SERIES = re.compile(
    r"(?P<stem>(?:answer[ _-]?)?(?:option|opt|choice|candidate)s?[ _-]?|a(?=\d))?(?P<label>[a-z]|\d{1,2})",
    re.IGNORECASE,
)


def series_of_options(sample: Sequence[RowValues]) -> tuple[tuple[str, ...], int | None]:
    """The longest series of such columns, and the number of its first one if they have numbers; empty without one.

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
