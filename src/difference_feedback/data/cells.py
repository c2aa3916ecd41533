"""Values of rows as files hold them: nested by dots, missing in several ways, lists that are written as text."""

import ast
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from difference_feedback.errors import FieldError

RowValues = Mapping[str, Any]
Place = tuple[str | int, ...]
"""Where a value stands in a row: `("messages", 0, "content")`."""


class SourceRow(NamedTuple):
    """A row, the line or the number by which people find it, and its number, from 0, for `reread`."""

    number: int
    line: int
    values: RowValues


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: null, NaN, or a blank text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, str) and not value.strip()


def place_of(row: RowValues, column: str) -> Place:
    """The place that a column's name means. A column whose own name has dots takes precedence over a nested one."""
    return (column,) if column in row or "." not in column else tuple(column.split("."))


def value_at(row: Any, place: Place) -> Any:
    """The value at a place; None where there is none. Lists and objects that are written as text are read."""
    value = row
    for key in place:
        if isinstance(value, str):
            value = read_text(value)
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and str(key).isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def has_column(row: RowValues, column: str) -> bool:
    """Whether the row has the column, which may be empty."""
    *above, last = place_of(row, column)
    holder = value_at(row, tuple(above))
    if isinstance(holder, str):
        holder = read_text(holder)
    return last in holder if isinstance(holder, Mapping) else value_at(row, (*above, last)) is not None


def read_text(text: str) -> Any:
    """A list or an object that is written as text, in JSON or as Python prints it (MMMU's options); else the text."""
    text = text.strip()
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        return value if isinstance(value, list | dict) else text
    return text


def text_in(value: Any, field: str) -> str:
    """A text or a number as text. Raises `FieldError` for everything else."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise FieldError(field, f"the type is {type(value).__name__}: give a text or a number.")
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)
