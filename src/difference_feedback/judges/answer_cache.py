"""Answers of chat models on disk, shared by runs and processes. It may fail in any way and loses no answer by it."""

import sys
import threading
from collections.abc import Callable
from typing import Any

from difference_feedback.errors import ConfigError

INSTALL = "pip install 'difference-feedback[endpoint]'"


class AnswerCache:
    """A `diskcache` of plain JSON: it may be shared, so nothing in it is unpickled. Nothing is evicted.

    Raises `ConfigError` when the folder cannot be used from the start. Later errors are counted in `errors`, told once,
    and cost no more than the keeping.
    """

    def __init__(self, folder: str) -> None:
        try:
            import diskcache
        except ImportError:
            raise ConfigError(f"endpoint.cache: the package diskcache is not installed: {INSTALL}") from None
        self.folder = folder
        self.errors = 0
        self._lock = threading.Lock()
        try:
            self._cache = diskcache.Cache(folder, disk=diskcache.JSONDisk, eviction_policy="none")
        except Exception as error:  # the disk's, or sqlite's on a file that is no data base
            raise ConfigError(f"endpoint.cache {folder}: {error}; name a folder that can be written") from None

    def get(self, key: str) -> dict[str, Any] | None:
        """What was kept under `key`; None where there is nothing, or nothing that can be read."""
        value = self._guarded(lambda: self._cache.get(key))
        return value if isinstance(value, dict) else None

    def set(self, key: str, value: dict[str, Any]) -> None:
        """Keep `value`, plain JSON values, under `key`."""
        self._guarded(lambda: self._cache.set(key, value))

    def _guarded(self, use: Callable[[], Any]) -> Any:
        try:
            return use()
        except Exception as error:  # sqlite's, the disk's, or a damaged entry's
            with self._lock:
                self.errors += 1
                if self.errors == 1:
                    print(
                        f"Cache {self.folder}: {error}. Answers are used but not kept; see to the disk, or name "
                        "another folder.",
                        file=sys.stderr,
                    )
            return None
