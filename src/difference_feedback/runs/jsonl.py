"""JSON Lines files: the rows that can be used, and what is wrong with the others."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from difference_feedback.errors import DataError


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


def read_jsonl(path: Path) -> tuple[list[Row], list[RowProblem]]:
    """Read the rows of a file, each a JSON object on a line of its own. Empty lines are no rows.

    A line that does not parse becomes a problem and stops nothing.

    Raises:
        DataError: the file cannot be opened.
    """
    rows: list[Row] = []
    problems: list[RowProblem] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                    values = json.loads(text) if text else None
                except UnicodeDecodeError as error:
                    problems.append(RowProblem(number, None, f"byte {error.start} is no UTF-8; save the file as UTF-8"))
                except (ValueError, RecursionError) as error:
                    problems.append(RowProblem(number, None, f"no valid JSON ({error}); write one object a line"))
                else:
                    if isinstance(values, dict):
                        rows.append(Row(number, values))
                    elif text:
                        found = type(values).__name__
                        problems.append(RowProblem(number, None, f"a JSON {found}; write an object, {{...}}"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; name a file that can be read") from None
    return rows, problems


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write the rows, one object a line, and return their number. The file appears only once it is complete.

    Raises:
        DataError: the file cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        os.replace(partial, path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; name a file that can be written") from None
    finally:
        with suppress(OSError):  # it was renamed, or never made
            partial.unlink()
    return count
