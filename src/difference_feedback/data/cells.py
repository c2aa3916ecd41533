"""Values of rows as files hold them: nested by dots, missing in several ways, lists that are written as text."""

import ast
import io
import json
import math
import re
import tokenize
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

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


def is_filled(value: Any) -> bool:
    """Whether a cell holds something: an empty list or object is nothing."""
    return not is_missing(value) and value not in ([], {})


def place_of(row: RowValues, column: str) -> Place:
    """The place that a column's name means. A column whose own name has dots takes precedence over a nested one."""
    return (column,) if column in row or "." not in column else tuple(column.split("."))


def value_at(row: Any, place: Place) -> Any:
    """The value at a place; None if the row has no such place. Lists and objects that are written as text are read."""
    value = row
    for key in place:
        if isinstance(value, str):
            value = read_text(value)
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and re.fullmatch("[0-9]{1,9}", str(key)) and int(key) < len(value):
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
    """A list or an object that is written as text, in JSON or as Python or NumPy print it; else the text."""
    text = text.strip()
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return text
    for read in (json.loads, _printed):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError, tokenize.TokenError):
            continue
        return value if isinstance(value, list | dict) else text
    return text


def _printed(text: str) -> Any:
    """A value as Python prints it. NumPy prints no commas, and Python would join its texts: `['a' 'b']`."""
    parts, last = [], 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER):
            continue
        parts += [", "] * (token.type == last and last in (tokenize.STRING, tokenize.NUMBER)) + [token.string]
        last = token.type
    return ast.literal_eval(" ".join(parts))


def text_in(value: Any, field: str) -> str:
    """A text or a number as text; of an answer or an option also true and false. Raises `FieldError` for the rest."""
    if isinstance(value, bytes | pa.Buffer):
        try:
            value = bytes(value).decode()
        except UnicodeDecodeError:
            raise FieldError(field, "bytes that are no UTF-8: give a text or a number.") from None
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) and field in ("answer", "options"):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:
            raise FieldError(field, "a number of thousands of digits: give it as a text.") from None
    if not isinstance(value, float | Decimal) or not math.isfinite(value):
        raise FieldError(field, f"the type is {type(value).__name__}: give a text or a number.")
    if value == int(value) and abs(int(value)) < 10**15:
        return str(int(value))
    if isinstance(value, float) and len(repr(value)) > 12 and float(np.float32(value)) == value:
        return str(np.float32(value))  # 0.1 in single precision is 0.10000000149011612 in double
    return str(value)
