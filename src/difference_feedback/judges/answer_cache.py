"""A cache of chat models' answers on disk, shared by runs and processes. When the cache fails, no answer is lost."""

import sys
import threading
from collections.abc import Callable
from typing import Any

from difference_feedback.errors import ConfigError
from difference_feedback.runs.packages import require


class AnswerCache:
    """A `diskcache` of plain JSON. Others may write to it, so nothing is ever unpickled. Entries are never evicted.

    Raises `ConfigError` when the folder cannot be opened. Later errors are counted in `errors`, and the first is
    reported; the answer itself is still used.
    """

    def __init__(self, folder: str) -> None:
        require("diskcache", "endpoint.cache")
        import diskcache

        self.folder = folder
        self.errors = 0
        self._lock = threading.Lock()
        try:
            self._cache = diskcache.Cache(folder, disk=diskcache.JSONDisk, eviction_policy="none")
        except Exception as error:  # from the disk, or from sqlite when a file there is not a database
            raise ConfigError(
                f"endpoint.cache {folder}: cannot be opened ({error}); name a folder that can be written"
            ) from None

    def get(self, key: str) -> dict[str, Any] | None:
        """The value stored under `key`; None when there is none or it cannot be read."""
        value = self._guarded(lambda: self._cache.get(key))
        return value if isinstance(value, dict) else None

    def set(self, key: str, value: dict[str, Any]) -> None:
        """Store `value`, which holds plain JSON values, under `key`."""
        self._guarded(lambda: self._cache.set(key, value))

    def _guarded(self, use: Callable[[], Any]) -> Any:
        try:
            return use()
        except Exception as error:  # from sqlite, from the disk, or from a damaged entry
            with self._lock:
                self.errors += 1
                if self.errors == 1:
                    print(
                        f"endpoint.cache {self.folder}: {error}. Answers are used but not stored; check the disk, or "
                        "name another folder.",
                        file=sys.stderr,
                    )
            return None
