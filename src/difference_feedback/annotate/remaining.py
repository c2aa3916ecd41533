"""Which items remain for each annotator, so that the next one is found without a search through all of them."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import chain


class Remaining:
    """The places of the items that remain for each annotator, in order.

    `is_open` says of a place and an annotator whether it does; it is asked once, when the annotator is first seen.
    """

    def __init__(self, is_open: Callable[[int, str], bool]) -> None:
        self._is_open = is_open
        self._count = 0
        self._places: dict[str, list[int]] = {}

    def restart(self, count: int) -> None:
        """There are other items: `count` of them."""
        self._count = count
        self._places.clear()

    def extend(self, count: int) -> None:
        """There are `count` items now, the first ones as before."""
        for annotator, places in self._places.items():
            places += [place for place in range(self._count, count) if self._is_open(place, annotator)]
        self._count = count

    def close(self, place: int, annotator: str | None = None) -> None:
        """The item does not remain for this annotator, or with None for anybody."""
        lists = self._places.values() if annotator is None else filter(None, [self._places.get(annotator)])
        for places in lists:
            at = bisect_left(places, place)
            if at < len(places) and places[at] == place:
                del places[at]

    def number(self, annotator: str) -> int:
        """How many items remain."""
        return len(self._of(annotator))

    def behind(self, after: int, annotator: str) -> Iterator[int]:
        """The places that remain: those behind `after`, then the others from the first on."""
        places = self._of(annotator)
        start = bisect_right(places, after)
        return (places[i] for i in chain(range(start, len(places)), range(start)))

    def _of(self, annotator: str) -> list[int]:
        if annotator not in self._places:
            self._places[annotator] = [place for place in range(self._count) if self._is_open(place, annotator)]
        return self._places[annotator]
