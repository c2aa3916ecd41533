"""A JSONL file that several people append to, from several processes, without ever losing a row."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from difference_feedback.errors import DataError
from difference_feedback.runs.jsonl import Row, RowProblem, read_jsonl


class SharedRows:
    """Rows are appended under a lock and are on the disk when `append` returns. Nothing is ever rewritten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = FileLock(str(path) + ".lock")

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row. One cut off by a crash before it is closed with a line break, and so costs itself alone.

        Raises `DataError` when the file cannot be written.
        """
        data = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.lock, self.path.open("a+b") as file:
                if file.seek(0, os.SEEK_END):
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        data = b"\n" + data
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(
                f"{self.path}: {error.strerror}; nothing was saved. Free the disk, or choose another"
            ) from None

    def read(self) -> tuple[list[Row], list[RowProblem]]:
        """The rows so far, and those that cannot be read."""
        if not self.path.is_file():
            return [], []
        with self.lock:
            return read_jsonl(self.path)
