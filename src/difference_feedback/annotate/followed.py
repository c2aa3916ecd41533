"""Follow a file of JSON Lines: each row is read once, however often somebody asks what is new."""

import codecs
import os
from dataclasses import dataclass, field
from pathlib import Path

from difference_feedback.errors import DataError
from difference_feedback.runs.json_values import parse_line
from difference_feedback.runs.jsonl import Row, RowProblem
from difference_feedback.runs.outputs import explain

_MARK = 64  # bytes before the place that was reached; where they differ, the file is another one


@dataclass
class Changes:
    """What a file has gained since the look before."""

    is_other: bool = False
    """Whether the file was replaced, cut or rewritten: all earlier rows are void, and `rows` has it from the start."""
    rows: list[Row] = field(default_factory=list)
    problems: list[RowProblem] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.is_other or bool(self.rows) or bool(self.problems)


class FollowedFile:
    """A file that others append to or replace. A file that does not exist has no rows.

    Only whole lines are taken. A last line without its line break is taken if it is an object, and otherwise read again
    when there is more of it. The cost of a look grows with what is new, not with the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: tuple[int, int] | None = None
        self._size = self._time = self._end = self._lines = 0
        self._mark = b""
        self._gave_rows = False

    def changes(self) -> Changes:
        """What is new. Raises `DataError` when the file cannot be read."""
        try:
            status = os.stat(self.path)
            name = (status.st_dev, status.st_ino)
            if (name, status.st_size, status.st_mtime_ns) == (self._file, self._size, self._time):
                return Changes()
            return self._read()
        except FileNotFoundError:
            changes = Changes(is_other=self._file is not None)
            self.forget()
            return changes
        except OSError as error:
            raise DataError(f"{explain(error, self.path, 'name a file that can be read')}.") from None

    def forget(self) -> None:
        """Read the file from its start the next time."""
        self._file, self._mark = None, b""
        self._size = self._time = self._end = self._lines = 0

    def _read(self) -> Changes:
        changes = Changes()
        with self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            name = (status.st_dev, status.st_ino)
            rewritten = status.st_size == self._size and status.st_mtime_ns != self._time
            file.seek(self._end - len(self._mark))
            goes_on = status.st_size >= self._end and file.read(len(self._mark)) == self._mark
            if self._mark and not self._mark.endswith(b"\n"):  # a row that was taken may have become part of another
                goes_on = goes_on and file.read(1) in (b"", b"\r", b"\n")
            if name != self._file or rewritten or not goes_on:
                changes.is_other = self._gave_rows
                self.forget()
            file.seek(self._end)
            is_start, self._gave_rows = self._end == 0, True
            self._file, self._size, self._time = name, status.st_size, status.st_mtime_ns
            for line in file:
                parsed = parse_line(line.removeprefix(codecs.BOM_UTF8) if self._lines == 0 else line)
                if not line.endswith(b"\n") and not isinstance(parsed, dict):
                    if is_start and parsed is not None:
                        changes.problems.append(RowProblem(self._lines + 1, None, parsed))
                    break
                self._lines += not self._mark or self._mark.endswith(b"\n")  # else it ends a line that was taken before
                self._end += len(line)
                self._mark = (self._mark + line)[-_MARK:]
                if isinstance(parsed, dict):
                    changes.rows.append(Row(self._lines, parsed))
                elif parsed is not None:
                    changes.problems.append(RowProblem(self._lines, None, parsed))
        return changes
