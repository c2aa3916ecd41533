"""Tables as text: CSV and TSV. A stray quote or a bad byte loses its own row, and no other."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from difference_feedback.data.cells import RowValues
from difference_feedback.errors import DataError
from difference_feedback.runs.json_values import is_unicode

_DELIMITERS = (",", ";", "\t", "|")
_HEAD = 2**18  # bytes from which the delimiter is guessed
_LONG = 3  # lines of a record, above which it may be a quote that is never closed


class CsvRow(NamedTuple):
    """A row, its bytes in the file, and its first line."""

    start: int
    end: int
    line: int
    values: RowValues


class CsvTable:
    """A table whose first line has the names. `default` is the delimiter unless the first lines show another one."""

    def __init__(self, path: Path, default: str) -> None:
        csv.field_size_limit(2**31 - 1)  # images as base64
        self.path = path
        with path.open("rb") as file:
            head = _text(file.read(_HEAD)).removeprefix("\ufeff")
            directive = re.match(r"sep=(.)\r?\n", head)  # Excel's
            self.delimiter = directive[1] if directive else _delimiter(head, default)
            file.seek(0)
            lines = _Lines(file)
            if directive:
                next(lines)
            names: list[str] = []
            for names in csv.reader(lines, delimiter=self.delimiter, skipinitialspace=True):
                if names:
                    break
            self._start, self._line = lines.end, lines.line
        self.header = [name.removeprefix("\ufeff").strip() for name in names]
        twice = [name for name in self.header if name and self.header.count(name) > 1]
        if twice:
            raise DataError(f"{path}: two columns have the name {twice[0]!r}: give each a name of its own.")

    def rows(self, problem: Callable[[int, str], None]) -> Iterator[CsvRow]:
        """The rows in order. `problem` takes the line of each that cannot be read, and why."""
        if not is_unicode("".join(self.header)):
            problem(self._line, f"the names of the columns are no UTF-8; {_SAVE}")
        with self.path.open("rb") as file:
            file.seek(self._start)
            lines = _Lines(file, self._start, self._line)
            reader = self._reader(lines)
            while True:
                start, first = lines.end, lines.line + 1
                try:
                    cells = next(reader, None)
                    if cells is None:
                        return
                except csv.Error:
                    cells = None
                length = lines.line - first + 1
                if cells is None or (length > 1 and self._runs_away(cells, lines, start, first)):
                    lines.back(start, first - 1)
                    text = next(lines)  # the rest is read as rows of their own
                    cells = self._literal(text) if length == 1 else None
                    reader = self._reader(lines)
                if cells is None:
                    problem(first, 'a quote opens here that is not closed: write a quote within a text twice, ""')
                elif any(cell.strip() for cell in cells[len(self.header) :]):
                    wanted = f"{len(cells)} cells, but {len(self.header)} columns: put texts with"
                    problem(first, f"{wanted} {self.delimiter!r} into quotes")
                elif not is_unicode("".join(cells)):
                    problem(first, f"a byte is no UTF-8; {_SAVE}")
                elif cells:
                    yield CsvRow(start, lines.end, first, self._named(cells))

    def parse(self, raw: bytes) -> RowValues:
        """One row by its bytes, as `rows` has read it."""
        text = _text(raw)
        try:
            return self._named(next(self._reader(io.StringIO(text, newline=""))))
        except csv.Error:
            return self._named(self._literal(text) or [])

    def _reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self.delimiter, skipinitialspace=True, strict=True)

    def _literal(self, line: str) -> list[str] | None:
        """The cells of a line with quotes that are signs of the text, `1.png,"say "hi" now"`; None where one opens."""
        try:
            cells = next(csv.reader([line], delimiter=self.delimiter, skipinitialspace=True, quoting=csv.QUOTE_NONE))
        except csv.Error:
            return None
        cells = [cell.strip() for cell in cells]
        whole = [cell[1:-1].replace('""', '"') if re.fullmatch('(?s)".*"', cell) else cell for cell in cells]
        opened = any(cell.startswith('"') and cell == text for cell, text in zip(cells, whole, strict=True))
        return None if opened or len(cells) > len(self.header) else whole

    def _runs_away(self, cells: list[str], lines: "_Lines", start: int, first: int) -> bool:
        """Whether a record of several lines is a quote that swallows rows: its cells do not fit, or its lines do."""
        if len(cells) != len(self.header):
            return True
        length = lines.line - first + 1
        if length <= _LONG or len(self.header) < 2:
            return False
        lines.back(start, first - 1)
        texts = [text for text in islice(lines, length) if text.strip()]
        return (
            len(texts) > _LONG
            and not any('"' in text for text in texts[1:-1])
            and all(
                len(cells) == len(self.header)
                for cells in csv.reader(texts, delimiter=self.delimiter, quoting=csv.QUOTE_NONE)
            )
        )

    def _named(self, cells: list[str]) -> RowValues:
        return dict(zip(self.header, [cell if cell.strip() else None for cell in cells], strict=False))


_SAVE = "save the file as UTF-8 (in Excel: CSV UTF-8)"


class _Lines:
    """The lines of a file as texts. `end` and `line` tell where the last one ends, and its number."""

    def __init__(self, file: BinaryIO, end: int = 0, line: int = 0) -> None:
        self.file, self.end, self.line = file, end, line

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        raw = self.file.readline()
        if not raw:
            raise StopIteration
        self.end, self.line = self.end + len(raw), self.line + 1
        return _text(raw)

    def back(self, end: int, line: int) -> None:
        self.end, self.line = end, line
        self.file.seek(end)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _delimiter(head: str, default: str) -> str:
    """The delimiter by which the names and the first row have equally many cells, or else the usual one."""
    ranks = {}
    for delimiter in dict.fromkeys((default, *_DELIMITERS)):
        try:
            reader = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter, skipinitialspace=True)
            widths = [len(cells) for cells in islice(filter(None, reader), 2)]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            ranks[delimiter] = (widths[0] == widths[-1], delimiter == default, widths[0])
    return max(ranks, key=lambda delimiter: ranks[delimiter], default=default)
