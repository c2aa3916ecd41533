"""One reader for every file of rows: JSON Lines, JSON, CSV, TSV, parquet, a saved data set, a hub name.

A source gives its rows one after the other and keeps none of them. `reread` gives one row again, from the disk, so that
an image inside a row is read when it is needed.
"""

import csv
import io
import json
from array import array
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import datasets

from difference_feedback.data.cells import RowValues, SourceRow
from difference_feedback.data.tables import BATCH, ParquetSource, TableSource
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.runs.jsonl import RowProblem
from difference_feedback.runs.sections import Data

TEXT_FILES = (".jsonl", ".json", ".csv", ".tsv")


class RowSource(Protocol):
    """Rows from outside. Lines that are no rows go to `problems` while the rows are read."""

    folder: Path
    """Paths of images are relative to it."""
    problems: list[RowProblem]

    def __iter__(self) -> Iterator[SourceRow]: ...
    def reread(self, number: int) -> RowValues:
        """The row of this number once more."""
        ...


def open_source(data: Data) -> RowSource:
    """The source that `data.path` names.

    Raises `ConfigError` for a path that holds no data, and `DataError` for a file that cannot be read.
    """
    path = Path(data.path).expanduser()
    if path.is_dir():
        return _folder(path, data)
    if path.suffix.lower() in TEXT_FILES:
        return TextSource(path)
    if path.suffix.lower() == ".parquet":
        return _parquet([path], path.parent, data)
    return TableSource(_loaded(data, lambda: datasets.load_dataset(data.path, data.name, split=data.split)), Path())


class TextSource:
    """Rows of a text file. Of each row only its place in the file is kept."""

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, path.parent
        self.problems: list[RowProblem] = []
        self._starts, self._ends = array("q"), array("q")
        self._header: list[str] = []
        self._is_table = path.suffix.lower() in (".csv", ".tsv")
        self._delimiter = "\t" if path.suffix.lower() == ".tsv" else ","

    def __iter__(self) -> Iterator[SourceRow]:
        self.problems.clear()
        self._starts, self._ends = array("q"), array("q")
        try:
            if self._is_table:
                yield from self._table()
            elif self.path.suffix.lower() == ".json" and self._is_whole():
                yield from self._items()
            else:
                yield from self._lines()
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}; name a file that can be read") from None

    def reread(self, number: int) -> RowValues:
        with self.path.open("rb") as file:
            file.seek(self._starts[number])
            text = _decoded(file.read(self._ends[number] - self._starts[number]))
        if self._is_table:
            return self._named(next(csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter)))
        values: RowValues = json.loads(text)
        return values

    def _row(self, start: int, end: int, line: int, values: RowValues) -> SourceRow:
        self._starts.append(start)
        self._ends.append(end)
        return SourceRow(len(self._starts) - 1, line, values)

    def _lines(self) -> Iterator[SourceRow]:
        with self.path.open("rb") as file:
            end = 0
            for number, raw in enumerate(file, 1):
                start, end = end, end + len(raw)
                try:
                    text = _decoded(raw).strip()
                    values = json.loads(text) if text else None
                except UnicodeDecodeError as error:
                    self._problem(number, f"byte {error.start} is no UTF-8; save the file as UTF-8")
                except (ValueError, RecursionError) as error:
                    self._problem(number, f"no valid JSON ({error}); write one object a line")
                else:
                    if isinstance(values, dict):
                        yield self._row(start, end, number, values)
                    elif text:
                        self._problem(number, f"a JSON {type(values).__name__}; write an object, {{...}}")

    def _is_whole(self) -> bool:
        """Whether a .json file is one list or one object, and not JSON Lines."""
        with self.path.open(encoding="utf-8-sig", errors="replace") as file:
            first, second = (*islice((line for line in file if line.strip()), 2), "", "")[:2]
        try:
            return not (second and isinstance(json.loads(first), dict))
        except (ValueError, RecursionError):
            return True  # the first line of a list, or of an object over several lines

    def _items(self) -> Iterator[SourceRow]:
        """The items of the file's list, numbered from 1, since many of them may stand on one line."""
        raw = self.path.read_bytes()
        bom = len(_BOM) * raw.startswith(_BOM)
        try:
            text = _decoded(raw)
            del raw
            place = _start_of_items(text)
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: byte {error.start} is no UTF-8; save the file as UTF-8") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.path}: no valid JSON ({error}); write a list of objects") from None
        decoder, number = json.JSONDecoder(), 0
        start = _next(text, 0) if place < 0 else _next(text, place)
        byte = bom + len(text[:start].encode())
        while start < len(text) and text[start] != "]":
            number += 1
            try:
                values, end = decoder.raw_decode(text, start)
            except (ValueError, RecursionError) as error:
                self._problem(number, f"no valid JSON ({error}); the rest of the file is not read")
                return
            length = len(text[start:end].encode())
            if isinstance(values, dict):
                yield self._row(byte, byte + length, number, values)
            else:
                self._problem(number, f"a JSON {type(values).__name__}; write an object, {{...}}")
            if place < 0:
                return
            start = _next(text, end)
            byte += length + start - end

    def _table(self) -> Iterator[SourceRow]:
        csv.field_size_limit(2**31 - 1)  # images as base64
        end = line = 0
        with self.path.open("rb") as file:

            def lines() -> Iterator[str]:
                nonlocal end, line
                for raw in file:
                    end, line = end + len(raw), line + 1
                    yield _decoded(raw)

            reader = csv.reader(lines(), delimiter=self._delimiter)
            try:
                self._header = [name.strip() for name in next(reader, [])]
                while True:
                    start, first = end, line + 1
                    cells = next(reader, None)
                    if cells is None:
                        return
                    if len(cells) > len(self._header):
                        wanted = f"{len(cells)} cells, but {len(self._header)} columns: put texts with"
                        self._problem(first, f"{wanted} {self._delimiter!r} into quotes")
                    elif cells:
                        yield self._row(start, end, first, self._named(cells))
            except UnicodeDecodeError as error:
                self._problem(line + 1, f"byte {error.start} is no UTF-8; save the file as UTF-8")
            except csv.Error as error:
                self._problem(line, f"no valid table ({error}); the rest of the file is not read")

    def _named(self, cells: list[str]) -> RowValues:
        return dict(zip(self._header, [cell if cell.strip() else None for cell in cells], strict=False))

    def _problem(self, line: int, message: str) -> None:
        self.problems.append(RowProblem(line, None, message))


_BOM = b"\xef\xbb\xbf"
_ROW_LISTS = ("conversations", "messages", "prompt", "images")  # lists of objects within one row


def _decoded(raw: bytes) -> str:
    return raw.removeprefix(_BOM).decode("utf-8")


def _start_of_items(text: str) -> int:
    """Behind the bracket of a file's list: the file itself, or the one list of objects in its object. -1: none.

    Raises `ValueError` where the text is no JSON.
    """
    decoder, place = json.JSONDecoder(), _next(text, 0)
    if text[place : place + 1] == "[":
        return place + 1
    if text[place : place + 1] != "{":
        raise ValueError("it begins with neither [ nor {")
    starts = []
    place = _next(text, place + 1)
    while text[place : place + 1] == '"':
        key, place = decoder.raw_decode(text, place)
        start = _next(text, place, " \t\r\n:")
        value, place = decoder.raw_decode(text, start)
        if isinstance(value, list) and value and isinstance(value[0], dict) and key not in _ROW_LISTS:
            starts.append(start + 1)
        place = _next(text, place)
    return starts[0] if len(starts) == 1 else -1


def _next(text: str, place: int, skipped: str = " \t\r\n,") -> int:
    while place < len(text) and text[place] in skipped:
        place += 1
    return place


def _folder(path: Path, data: Data) -> RowSource:
    """A saved data set, shards of parquet, or a folder with one file of rows beside its images."""
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return TableSource(_loaded(data, lambda: datasets.load_from_disk(str(path))), path)
    for suffix in ("parquet", *(suffix[1:] for suffix in TEXT_FILES)):
        files = sorted(path.rglob(f"*.{suffix}") if suffix == "parquet" else path.glob(f"*.{suffix}"))
        of_split = [file for file in files if data.split in (*file.name.replace(".", "-").split("-"), file.parent.name)]
        files = of_split or files
        if files and suffix == "parquet":
            return _parquet(files, path, data)
        if len(files) > 1:
            names = ", ".join(file.name for file in files[:5])
            raise ConfigError(f"data.path {path} holds {len(files)} files of rows ({names}): name one of them.")
        if files:
            return TextSource(files[0])
    return TableSource(_loaded(data, lambda: datasets.load_dataset(str(path), data.name, split=data.split)), path)


def _parquet(files: list[Path], folder: Path, data: Data) -> RowSource:
    names = [str(file) for file in files]
    try:
        source = ParquetSource(names, folder)
        if source.has_small_groups:
            return source
    except (OSError, ValueError) as error:
        raise DataError(f"{data.path}: no parquet that can be read ({error}); copy it again") from None
    # An image in a large group would take long to reach. `datasets` copies the rows into its cache, once.
    loaded = _loaded(data, lambda: datasets.load_dataset("parquet", data_files=names, split="train", batch_size=BATCH))
    return TableSource(loaded, folder)


def _loaded(data: Data, load: Callable[[], Any]) -> datasets.Dataset:
    try:
        loaded = load()
    except (OSError, ValueError, KeyError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"data.path {data.path}: cannot be loaded ({reason}): give a file of rows (JSONL, JSON, CSV, TSV, "
            "parquet), a saved data set, or a hub name."
        ) from error
    if isinstance(loaded, datasets.DatasetDict):
        if data.split not in loaded:
            raise ConfigError(f"data.split: {data.path} has no {data.split!r}, it has {', '.join(loaded)}.")
        loaded = loaded[data.split]
    return loaded
