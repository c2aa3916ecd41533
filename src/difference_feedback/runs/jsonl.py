"""JSON Lines files: one way to read, to write and to append. One object a line, in UTF-8; NaN and infinity are null."""

import codecs
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock
from rich.console import Console

from difference_feedback.errors import ConfigError, DataError
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
        return f"{place}: {self.message}"


class JsonLines:
    """A file that several threads and processes append to without losing a row.

    `lock` can be held over several calls, by one thread at a time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = FileLock(f"{os.path.realpath(path)}.lock")

    def append(self, *rows: Mapping[str, Any]) -> None:
        """Add rows, all of them or none. They are on the disk when this returns.

        A last line that a crash cut off is removed first: the `append` that wrote it never returned.

        Raises `DataError` when the file cannot be written.
        """
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
    rows: list[Row] = []
    problems: list[RowProblem] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                parsed = parse_line(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)
                if isinstance(parsed, dict):
                    rows.append(Row(number, parsed))
                elif parsed is not None:
                    problems.append(RowProblem(number, None, parsed))
    except OSError as error:
        raise DataError(f"{explain(error, path, 'name a file that can be read')}.") from None
    return rows, problems


def parse_line(line: bytes) -> dict[str, Any] | str | None:
    """The object that a line holds; what is wrong with the line, as a text; or None for an empty line."""
    try:
        text = line.decode().strip()
        values = json.loads(text) if text else None
    except UnicodeDecodeError as error:
        return f"byte {error.start} is no UTF-8; save the file as UTF-8"
    except (ValueError, RecursionError) as error:
        return f"no valid JSON ({error}); write one object a line"
    if isinstance(values, dict):
        return values
    return f"a JSON {type(values).__name__}; write an object, {{...}}" if text else None


def read_input(path: Path) -> tuple[list[Row], list[RowProblem]]:
    """`read_jsonl` for a file that somebody names to a command.

    Raises `DataError` where not one line is a row, too: the file is of another kind, or empty.
    """
    rows, problems = read_jsonl(path)
    if not rows:
        kind = path.suffix[1:].lower()
        reason = f"it has no row ({problems[0]})" if problems else "it has no row"
        if kind and kind not in ("jsonl", "ndjson", "txt"):
            reason = f"a {kind} file is not read here"
        raise DataError(f"{path}: {reason}. Give a file in JSON Lines, with one object on each line.")
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
    if not path.is_file():
        return []
    rows, problems = read_jsonl(path)
    if problems and (len(problems) > 1 or (rows and rows[-1].line > problems[0].line)):
        raise DataError(f"{path}, {problems[0]}. If the file was changed by hand, mend or remove this line.")
    return [row.values for row in rows]


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write the rows as `write_atomically` does, and return their number."""
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        for line in _lines(rows):
            count += 1
            yield line

    write_atomically(path, lines())
    return count


def to_json(value: Any, indent: int | None = None) -> str:
    """`value` as JSON text. Arrays and tensors become lists, numbers that are not finite null."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


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


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
