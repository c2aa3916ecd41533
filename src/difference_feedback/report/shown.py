"""How many of many rows a page shows: as many as a browser opens quickly, evenly spread. Not all are held to choose."""

from collections.abc import Sequence
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
        return evenly(self._items, self.size)


def evenly(items: Sequence[T], most: int) -> list[T]:
    """All of the items, or `most` of them, evenly spread from the first one on."""
    if len(items) <= most:
        return list(items)
    return [items[i * len(items) // most] for i in range(most)]
