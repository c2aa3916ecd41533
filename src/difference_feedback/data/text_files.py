"""Files of rows as text: JSON Lines, JSON, CSV and TSV, plain or packed by gzip, in UTF-8 or UTF-16."""

import atexit
import codecs
import gzip
import io
import json
import os
import shutil
import tempfile
import zlib
from array import array
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from difference_feedback.data.cells import RowValues, SourceRow
from difference_feedback.data.csv_tables import CsvTable
from difference_feedback.data.json_objects import ValueReader, next_value, rows_of_objects
from difference_feedback.errors import DataError
from difference_feedback.runs.json_values import HALF_PAIR, is_unicode, parse_line
from difference_feedback.runs.jsonl import RowProblem
from difference_feedback.runs.outputs import TEMPORARY, explain, naming

TEXT_FILES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")


def kind_of(path: Path) -> str:
    """The suffix of a file in lower case, without `.gz`."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


class TextSource:
    """Rows of a text file. Of each row only its place in the file is kept."""

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, path.parent
        self.problems: list[RowProblem] = []
        self._starts, self._ends = array("q"), array("q")

    def __iter__(self) -> Iterator[SourceRow]:
        self._starts, self._ends = array("q"), array("q")
        try:
            self.problems[:] = self._plain.problems
            if self._plain.form == "table":
                for start, end, line, values in self._table.rows(self._problem):
                    yield self._row(start, end, line, values)
            elif self._plain.form == "list":
                yield from self._items()
            else:
                yield from self._lines()
        except OSError as error:
            raise DataError(explain(error, self.path, "name a file that can be read")) from None

    def reread(self, number: int) -> RowValues:
        with self._plain.path.open("rb") as file:
            file.seek(self._starts[number])
            raw = file.read(self._ends[number] - self._starts[number])
        if self._plain.form == "table":
            return self._table.parse(raw)
        values: RowValues = json.loads(raw.removeprefix(codecs.BOM_UTF8))
        return values

    @cached_property
    def _plain(self) -> "_Plain":
        return _plain(self.path)

    @cached_property
    def _table(self) -> CsvTable:
        return CsvTable(self._plain.path, "\t" if kind_of(self.path) == ".tsv" else ",")

    def _row(self, start: int, end: int, line: int, values: RowValues) -> SourceRow:
        self._starts.append(start)
        self._ends.append(end)
        return SourceRow(len(self._starts) - 1, line, values)

    def _lines(self) -> Iterator[SourceRow]:
        with self._plain.path.open("rb") as file:
            end = 0
            for number, raw in enumerate(file, 1):
                start, end = end, end + len(raw)
                parsed = parse_line(raw.removeprefix(codecs.BOM_UTF8))
                if isinstance(parsed, dict) and is_unicode("".join(parsed)):
                    yield self._row(start, end, number, parsed)
                elif parsed is not None:
                    self._problem(number, parsed if isinstance(parsed, str) else _BROKEN_KEY)

    def _items(self) -> Iterator[SourceRow]:
        """The items of the file's lists, numbered from 1, since many of them may stand on one line."""
        text = _text(self._plain.path)
        reader, number, is_open = ValueReader(), 0, False
        place = byte = 0

        def forward(end: int) -> None:
            nonlocal place, byte
            byte += len(text[place:end].encode("utf-8", "surrogateescape"))
            place = end

        if text.startswith("\ufeff"):
            forward(1)
        forward(next_value(text, place))
        while place < len(text):
            if text[place] == ("]" if is_open else "["):
                is_open = not is_open
                forward(next_value(text, place + 1, _BETWEEN))
                continue
            number += 1
            try:
                values, end, fault = reader.read(text, place)
            except (ValueError, RecursionError) as error:
                self._problem(number, f"no valid JSON ({error}); the rest of the file is not read")
                return
            start = byte
            raw = text[place:end]
            forward(end)
            try:
                raw.encode()
            except UnicodeEncodeError as error:
                self._problem(number, f"its byte {error.start} is no UTF-8; save the file as UTF-8")
            else:
                if fault:
                    self._problem(number, fault)
                elif not isinstance(values, dict):
                    self._problem(number, f"a JSON {type(values).__name__}; write an object, {{...}}")
                elif not is_unicode("".join(values)):
                    self._problem(number, _BROKEN_KEY)
                else:
                    yield self._row(start, byte, number, values)
            forward(next_value(text, place, _BETWEEN))
        if is_open:
            self._problem(number + 1, "the list has no ] at its end: the file is cut off; copy it again")

    def _problem(self, line: int, message: str) -> None:
        self.problems.append(RowProblem(line, None, message))


_BROKEN_KEY = f"a key: {HALF_PAIR}"
_BETWEEN = " \t\r\n,"


class _Plain(NamedTuple):
    """A file in UTF-8, and how its rows stand in it. `problems` are those of the file that it was made from."""

    path: Path
    form: Literal["lines", "list", "table"]
    problems: list[RowProblem]


def _plain(path: Path) -> _Plain:
    """The file as it is, or a copy that is removed when the process ends: unpacked, in UTF-8, one object a line.

    Raises `DataError` for a file that is no JSON.
    """
    kind = kind_of(path)
    file = _unpacked(path, is_table=kind in (".csv", ".tsv"))
    if kind in (".csv", ".tsv"):
        return _Plain(file, "table", [])
    if _has_lines(file, is_json=kind == ".json"):
        return _Plain(file, "lines", [])
    text = _text(file).removeprefix("\ufeff")
    first = text[next_value(text, 0) :][:1]
    if first == "[":
        return _Plain(file, "list", [])
    try:
        if first != "{":
            raise ValueError("it begins with neither [ nor {" if first else "it is empty")
        rows, problem = rows_of_objects(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no valid JSON ({error}); write a list of objects") from None
    copy = _copy()
    with naming(copy), copy.open("w") as target:
        target.writelines(json.dumps(row) + "\n" for row in rows)
    return _Plain(copy, "lines", [RowProblem(len(rows) + 1, None, problem)] if problem else [])


def _has_lines(path: Path, is_json: bool) -> bool:
    """Whether the file is JSON Lines, and not one value or several over any number of lines."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first, second = (*islice((line.strip() for line in file if line.strip()), 2), "", "")[:2]
    if first in ("[", "{"):
        return False
    if _is_object(first):
        return bool(second) or not is_json
    if _is_object(second):
        return not is_json or first.endswith("}")
    return not is_json and not first.startswith("[")


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _unpacked(path: Path, is_table: bool) -> Path:
    """The file, or a copy in UTF-8 of one that is packed, in UTF-16, or a table with old Macintosh's ends of lines."""
    packed = path.name.lower().endswith(".gz")
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            head = file.read(2**16)
            encoding = json.detect_encoding(head)
            old_lines = is_table and b"\r" in head and b"\n" not in head
            if not packed and not old_lines and encoding.startswith("utf-8"):
                return path
            file.seek(0)
            errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
            copy = _copy()
            text = io.TextIOWrapper(file, encoding, errors, newline=None if old_lines else "")
            with naming(copy), copy.open("w", encoding="utf-8", errors=errors, newline="") as target:
                shutil.copyfileobj(text, target)
            return copy
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: it cannot be unpacked ({error}): copy it again.") from None


def _copy() -> Path:
    """A new file that is removed when the process ends."""
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=".rows")
    os.close(handle)
    atexit.register(Path(name).unlink, missing_ok=True)
    return Path(name)
