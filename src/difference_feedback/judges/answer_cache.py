"""A cache of chat models' answers on disk, shared by runs and machines. When the cache fails, no answer is lost."""

import json
import sys
import threading
from pathlib import Path
from typing import Any

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.judges.wire import MOST_BYTES
from difference_feedback.runs.outputs import write_atomically


class AnswerCache:
    """A folder with a JSON file for each answer: others may write there, and nothing of it is ever executed.

    Raises `ConfigError` when there is no such folder and none can be made. Later errors are counted in `errors`, and
    the first is reported; the answer itself is still used. Entries are never removed.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder).expanduser()
        self.errors = 0
        self._lock = threading.Lock()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"endpoint.cache {folder}: cannot be opened ({error.strerror}); name a folder that can be written"
            ) from None
        if (self.folder / "cache.db").is_file():
            print(
                f"endpoint.cache {folder}: its cache.db is of an older release and is not read: what it answers is "
                "asked for anew. Delete it, or name another folder.",
                file=sys.stderr,
            )

    def get(self, key: str) -> dict[str, Any] | None:
        """The value stored under `key`; None when there is none or it cannot be read."""
        path = self._path(key)
        try:
            if not path.is_file():
                return None
            with path.open("rb") as file:
                value = json.loads(file.read(MOST_BYTES))
        except (OSError, ValueError, RecursionError) as error:
            self._failed(f"{path.name}: {error}")
            return None
        if isinstance(value, dict):
            return value
        self._failed(f"{path.name}: no object")
        return None

    def set(self, key: str, value: dict[str, Any]) -> None:
        """Store `value`, which holds plain JSON values, under `key`."""
        path = self._path(key)
        if path.parent.is_symlink() or path.is_symlink() or (path.exists() and not path.is_file()):
            self._failed(f"{path.name}: no file")  # a link of another's would lead out of the folder, a pipe would hang
            return
        try:
            write_atomically(path, json.dumps(value))
        except DataError as error:
            self._failed(str(error))

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def _failed(self, reason: str) -> None:
        with self._lock:
            self.errors += 1
            if self.errors == 1:
                print(
                    f"endpoint.cache {self.folder}: {reason}. Answers that cannot be read are asked for anew, and "
                    "those that cannot be stored are still used; check the disk, or name another folder.",
                    file=sys.stderr,
                )
