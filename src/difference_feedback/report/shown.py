"""How many of many rows a page shows: as many as a browser opens quickly, evenly spread. Not all are held to choose."""

from typing import Generic, TypeVar

T = TypeVar("T")
SHOWN = 200
"""Rows that a page shows at most."""


class SpreadSample(Generic[T]):
    """At most `size` of the items that are added, evenly spread from the first one on, in their order."""

    def __init__(self, size: int = SHOWN) -> None:
        self.size, self.seen = size, 0
        self._every, self._items = 1, list[T]()

    def add(self, item: T) -> None:
        """Count the item, and keep it if its turn has come."""
        if self.seen % self._every == 0:
            self._items.append(item)
            if len(self._items) == 2 * self.size:  # every second one stays
                self._items, self._every = self._items[::2], 2 * self._every
        self.seen += 1

    @property
    def items(self) -> list[T]:
        """Those that are shown."""
        if len(self._items) <= self.size:
            return list(self._items)
        return [self._items[i * len(self._items) // self.size] for i in range(self.size)]
