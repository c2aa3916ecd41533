"""A memory of bounded size: what was not used for the longest time leaves first."""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

V = TypeVar("V")


class BoundedMemory(Generic[V]):
    """Values by keys, of at most `limit` bytes in all. Threads may share it; a copy in another process is empty."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        """Bytes that the values take now."""
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._lock = Lock()

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return type(self), (self.limit,)

    def get(self, key: Hashable) -> V | None:
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Keep a value of `size` bytes. One that is larger than the whole memory is not kept."""
        with self._lock:
            if key in self._values:
                self.size -= self._values.pop(key)[1]
            if size > self.limit:
                return
            self._values[key] = value, size
            self.size += size
            while self.size > self.limit:
                self.size -= self._values.popitem(last=False)[1][1]
