"""At which operations of a run trials are made: all, or one of each sort and a few more."""

import os
import random
from collections.abc import Sequence

from faults.file_faults.trials import Operation

ALL = os.environ.get("DF_FAULTS") == "all"
"""`DF_FAULTS=all` makes a trial of every operation."""


def chosen(operations: Sequence[Operation], kinds: Sequence[str], number: int, seed: int = 0) -> list[int]:
    """Numbers, from 1, of the operations of these kinds at which a trial is made, in order.

    By default `number` of them: first one of each sort, as far as they go, then others. A sort is a kind of operation
    on a kind of file; whether its first or its last one is taken is drawn, as the others are.
    """
    numbers = [number for number, operation in enumerate(operations, 1) if operation.kind in kinds]
    if ALL or len(numbers) <= number:
        return numbers
    draw = random.Random(seed)
    sorts: dict[tuple[str, str], list[int]] = {}
    for place in numbers:
        sorts.setdefault(operations[place - 1].pattern, []).append(place)
    of_each = [draw.choice((places[0], places[-1])) for places in sorts.values()]
    draw.shuffle(of_each)
    rest = sorted(set(numbers) - set(of_each))
    draw.shuffle(rest)
    return sorted([*of_each, *rest][:number])
