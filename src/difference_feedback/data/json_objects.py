"""A JSON file whose first value is an object: a row, an object of rows, a table by columns, or several of them."""

import json
from collections.abc import Mapping
from typing import Any

from difference_feedback.data.forms import IDS
from difference_feedback.runs.json_values import DEEPEST, TOO_DEEP, depth_of, unique_keys

_ROW_KEYS = {
    "question",
    "problem",
    "problem_text",
    "query",
    "prompt",
    "messages",
    "conversations",
    "answer",
    "solution",
    "ground_truth",
    "chosen",
}
"""Names of columns: an object with one of them is a row."""
_PART_KEYS = {
    "path",
    "bytes",
    "url",
    "image",
    "image_url",
    "video",
    "type",
    "text",
    "role",
    "content",
    "from",
    "value",
    "label",
    "name",
}
"""Keys of images and turns within a row."""
_ROW_LISTS = ("conversations", "messages", "prompt", "images", "videos")  # lists of objects within one row


def next_value(text: str, place: int, skipped: str = " \t\r\n") -> int:
    """The next place that holds none of the skipped signs; the end of the text where there is none."""
    while place < len(text) and text[place] in skipped:
        place += 1
    return place


class ValueReader:
    """Reads JSON values out of a text. What is wrong within a value does not hide those after it."""

    def __init__(self) -> None:
        self._faults: list[str] = []
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_int=self._integer)

    def read(self, text: str, place: int) -> tuple[Any, int, str | None]:
        """The value at `place`, where it ends, and what is wrong within it. Raises `ValueError`, `RecursionError`."""
        self._faults.clear()
        value, end = self._decoder.raw_decode(text, place)
        if end - place > DEEPEST and depth_of(value) > DEEPEST:
            self._faults.append(TOO_DEEP)
        return value, end, self._faults[0] if self._faults else None

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        try:
            return unique_keys(pairs)
        except ValueError as error:
            self._faults.append(str(error))
            return dict(pairs)

    def _integer(self, digits: str) -> int:
        try:
            return int(digits)
        except ValueError:  # Python reads no longer ones
            self._faults.append(f"a number of {len(digits)} digits: give it as a text")
            return 0


def rows_of_objects(text: str) -> tuple[list[Any], str | None]:
    """The rows of a text that begins with an object, and what is wrong with its end, if anything is.

    Raises `ValueError` or `RecursionError` where the first object is no JSON.
    """
    decoder, rows = json.JSONDecoder(), list[Any]()
    place = next_value(text, 0)
    while place < len(text):
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            if not rows:
                raise
            return rows, f"no valid JSON ({error}); the rest of the file is not read"
        rows += _rows_of(value)
        place = next_value(text, place, " \t\r\n,")
    return rows, None


def _rows_of(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or not value:
        return [value]
    lists = {key: item for key, item in value.items() if _holds_objects(key, item)}
    of_rows = [item for item in lists.values() if _ROW_KEYS & item[0].keys()]
    if len(of_rows) == 1:
        return of_rows[0]
    columns = {key: _column(item) for key, item in value.items()}
    if _ROW_KEYS & value.keys():
        cells_by_id = [item for item in value.values() if isinstance(item, dict) and not _PART_KEYS & item.keys()]
        ids = list(cells_by_id[0]) if len(cells_by_id) == len(value) > 1 else []
        if ids and _column(cells_by_id[0]) is None and all(list(item) == ids for item in cells_by_id):
            return [_with_id(key, {name: item[key] for name, item in value.items()}) for key in ids]
        lengths = {None if column is None else len(column) for column in columns.values()}
        if len(lengths) == 1 and None not in lengths:
            return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
        return [value]
    names, data = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(data, list) and all(isinstance(cells, list) for cells in data):
        return [dict(zip(map(str, names), cells, strict=False)) for cells in data]
    if len(lists) == 1:
        return next(iter(lists.values()))
    objects = list(value.values())
    if all(isinstance(item, dict) for item in objects) and _ROW_KEYS & objects[0].keys():
        return [_with_id(key, item) for key, item in value.items()]
    return [value]


def _with_id(key: str, row: dict[str, Any]) -> dict[str, Any]:
    """The row with its key in the file as its id, if it has none."""
    return row if row.keys() & IDS else {"id": key} | row


def _holds_objects(key: str, value: Any) -> bool:
    """Whether a list holds objects that may be rows."""
    if not isinstance(value, list) or not value or not isinstance(value[0], dict) or key in _ROW_LISTS:
        return False
    return not value[0].keys() <= _PART_KEYS


def _column(value: Any) -> list[Any] | None:
    """The cells of a column: a list, or an object by index as pandas writes it. None for a cell."""
    if isinstance(value, list):
        return None if value and isinstance(value[0], Mapping) and value[0].keys() <= _PART_KEYS else value
    if isinstance(value, dict) and value and all(key.lstrip("-").isdigit() for key in value):
        return list(value.values())
    return None
