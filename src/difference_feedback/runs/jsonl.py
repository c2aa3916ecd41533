"""JSON Lines files: one way to read, to write and to append. One object a line, in UTF-8; NaN and infinity are null."""

import codecs
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.runs.json_values import HALF_PAIR, field_with_half_pair, parse_line
from difference_feedback.runs.kernel_lock import KernelLock
from difference_feedback.runs.lock import check_held
from difference_feedback.runs.outputs import ESCAPE, check_output, explain, is_stdout, write_atomically


class Row(NamedTuple):
    """A JSON object and the line it stands on, counted from 1."""

    line: int
    values: dict[str, Any]


@dataclass(frozen=True)
class RowProblem:
    """Why a row cannot be used: its line, the field at fault (None: the whole row), and what to do about it."""

    line: int
    field: str | None
    message: str

    def __str__(self) -> str:
        place = f"line {self.line}" if self.field is None else f'line {self.line}, "{self.field}"'
        return f"{place}: {self.message}".encode(errors=ESCAPE).decode()  # it may quote half of a surrogate pair


class JsonLines:
    """A file that several threads and processes append to without losing a row, if its file system has locks.

    `lock` can be held over several calls, by one thread at a time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = KernelLock(f"{os.path.realpath(path)}.lock")

    def append(self, *rows: Mapping[str, Any]) -> None:
        """Add rows, all of them or none. They are on the disk when this returns.

        A last line that a crash cut off is removed first: the `append` that wrote it never returned.

        Raises `DataError` when the file cannot be written, and `ConfigError` as `check_held`.
        """
        check_held()
        data = "".join(_lines(rows)).encode("utf-8", ESCAPE)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.lock, self.path.open("a+b") as file:
                end = _mend(file)
                try:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    with suppress(OSError):
                        file.truncate(end)
                    raise
        except OSError as error:
            raise DataError(f"{explain(error, self.path)}. Nothing was saved.") from None

    def check(self) -> None:
        """Raise `ConfigError` where rows cannot be appended."""
        if is_stdout(self.path) or (self.path.exists() and not self.path.is_file()):
            raise ConfigError(f"{self.path} is no plain file, and rows are added to one: name another.")
        check_output(self.path, "cannot be written:")

    def read(self) -> tuple[list[Row], list[RowProblem]]:
        """The rows so far, and those that cannot be read. A file that does not exist has none."""
        if not self.path.is_file():
            return [], []
        with self.lock:
            return read_jsonl(self.path)


def read_jsonl(path: Path) -> tuple[list[Row], list[RowProblem]]:
    """Read the rows of a file. Empty lines are skipped. A line that does not parse becomes a problem and stops nothing.

    Raises:
        DataError: the file cannot be opened.
    """
    return _parted(iterate_jsonl(path))


def iterate_jsonl(path: Path) -> Iterator[Row | RowProblem]:
    """The lines of a file one after the other, as `read_jsonl` reads them."""
    return (row for number, line in raw_lines(path) if (row := _parsed(number, line)))


def count_lines(path: Path) -> int:
    """The lines of a file; 0 for a pipe, which can be read once only. Raises `DataError` as `read_jsonl`."""
    try:
        if not path.is_file():
            return 0
        with path.open("rb") as file:
            return sum(1 for _ in file)
    except OSError as error:
        raise DataError(f"{explain(error, path, 'name a file that can be read')}.") from None


def read_input(path: Path) -> tuple[list[Row], list[RowProblem]]:
    """`read_jsonl` for a file that somebody names to a command.

    A row with half of a surrogate pair in any text is a problem, too: no tokenizer takes it.

    Raises `DataError` where not one line is a row, too: the file is of another kind, or empty.
    """
    return _parted(iterate_input(path))


def iterate_input(path: Path) -> Iterator[Row | RowProblem]:
    """The lines of a file one after the other, as `read_input` reads them. Raises as that, at its end."""
    check = InputCheck(path)
    for number, line in raw_lines(path):
        if row := input_row(number, line):
            check.see(row)
            yield row
    check.finish()


class InputCheck:
    """Whether a file that somebody names has any row."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_empty = True
        self.first: Row | RowProblem | None = None

    def see(self, row: Row | RowProblem) -> None:
        """Take note of what a line holds."""
        self.first = self.first or row
        self.is_empty &= not is_row(row)

    def finish(self) -> None:
        """Raise `DataError` if no line was a row."""
        if not self.is_empty:
            return
        kind = self._path.suffix[1:].lower()
        reason = f"it has no row ({self.first})" if self.first else "it has no row"
        if kind and kind not in ("jsonl", "ndjson", "txt"):
            reason = f"a {kind} file is not read here"
        raise DataError(f"{self._path}: {reason}. Give a file in JSON Lines, with one object on each line.")


def is_row(parsed: Row | RowProblem) -> bool:
    """Whether a line holds an object, be it one with a field that cannot be used."""
    return isinstance(parsed, Row) or parsed.field is not None


def input_row(number: int, line: bytes) -> Row | RowProblem | None:
    """What a line of a file holds that somebody names; None for an empty line."""
    parsed = _parsed(number, line)
    if isinstance(parsed, Row) and _HALF_OF_A_PAIR.search(line) and (name := field_with_half_pair(parsed.values)):
        return RowProblem(number, name, HALF_PAIR)
    return parsed


_HALF_OF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file as bytes, with their numbers. Raises `DataError` as `read_jsonl`."""
    try:
        with path.open("rb") as file:
            yield from enumerate(file, 1)
    except OSError as error:
        raise DataError(f"{explain(error, path, 'name a file that can be read')}.") from None


def _parsed(number: int, line: bytes) -> Row | RowProblem | None:
    values = parse_line(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)
    if values is None:
        return None
    return Row(number, values) if isinstance(values, dict) else RowProblem(number, None, values)


def _parted(lines: Iterable[Row | RowProblem]) -> tuple[list[Row], list[RowProblem]]:
    rows: list[Row] = []
    problems: list[RowProblem] = []
    for line in lines:
        if isinstance(line, Row):
            rows.append(line)
        else:
            problems.append(line)
    return rows, problems


def print_problems(problems: Sequence[object], console: Console, shown: int = 20) -> None:
    """List the first `shown` problems, and say how many more there are."""
    for problem in problems[:shown]:
        console.print(f"  {problem}", markup=False, highlight=False)
    if len(problems) > shown:
        console.print(f"  and {len(problems) - shown} more")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that this package wrote; none where there is no file yet. A cut-off last line is left out.

    Raises:
        DataError: any other line does not parse.
    """
    return list(iterate_rows(path))


def iterate_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows that `read_rows` reads, one after the other."""
    if not path.is_file():
        return
    cut_off: RowProblem | None = None
    for line in iterate_jsonl(path):
        if cut_off is not None:  # it is not the last line
            message = f"{path}, {cut_off}. If the file was changed by hand, mend or remove this line."
            raise DataError(message)
        if isinstance(line, Row):
            yield line.values
        else:
            cut_off = line


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any] | str]) -> int:
    """Write the rows, or rows that are JSON already, as `write_atomically` does, and return their number."""
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        for row in rows:
            count += 1
            yield f"{row if isinstance(row, str) else to_json(row)}\n"

    write_atomically(path, lines())
    return count


def to_json(value: Any, indent: int | None = None) -> str:
    """`value` as JSON text. Arrays and tensors become lists, numbers that are not finite null."""
    plain = _plain(value)
    if indent is None:
        return _ENCODER.encode(plain)
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, indent=indent)


def _lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    return (to_json(row) + "\n" for row in rows)


def _mend(file: Any) -> int:
    """Close a last line that lacks its line break, or remove it if it was cut off. Returns where the file ends."""
    end: int = file.seek(0, os.SEEK_END)
    start, tail = end, b""
    while start and b"\n" not in tail:
        start = max(0, start - 65536)
        file.seek(start)
        tail = file.read(end - start)
    tail = tail.rpartition(b"\n")[2]
    if not tail:
        return end
    try:
        json.loads(tail)
    except (ValueError, RecursionError):
        file.truncate(end - len(tail))
    else:
        file.write(b"\n")
    return int(file.seek(0, os.SEEK_END))


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)  # made once, not for every row
_AS_THEY_ARE = {str, int, bool, type(None)}


def _plain(value: Any) -> Any:
    if type(value) in _AS_THEY_ARE:
        return value
    if type(value) is list:  # long ones hold tokens or numbers of one kind
        kinds = set(map(type, value))
        if kinds <= _AS_THEY_ARE or (kinds == {float} and all(map(math.isfinite, value))):
            return value
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
