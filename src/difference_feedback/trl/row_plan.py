"""How many rows each micro-batch of an update has, and which rows move to another rank. No model, no communication.

TRL shuffles a rank's rows and deals them into micro-batches of equal size. Those of one optimiser step are a window:
within it, and over the ranks, rows may change places, since their gradients are added up in any case. All ranks compute
the same plan from the same counts.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Move(NamedTuple):
    """`rows` rows of a window that go from one rank to another."""

    window: int
    source: int
    target: int
    rows: int


class RowPlan(NamedTuple):
    """The same for all ranks."""

    sizes: list[int]
    """Rows of each micro-batch on every rank, `(steps_per_generation,)`. Those of 0 rows are skipped on all ranks."""
    moves: list[Move]
    """As few rows as possible, from ranks with too many to ranks with too few."""


def plan_rows(counts: Sequence[Sequence[int]], steps: int, largest: int, first: int = 0) -> RowPlan:
    """Spread rows evenly over ranks, and each rank's over as few micro-batches as `largest` rows each allow.

    A window without rows has one filler row a rank: every window ends in a backward pass, in which ranks meet.

    Args:
        counts: rows by rank and window, `(ranks, windows)`.
        steps: micro-batches of a window.
        largest: rows of a micro-batch, exceeded only where a window's micro-batches would not hold its rows.
        first: the window in which the answers are sampled, in its first micro-batch, which is not skipped therefore.
    """
    ranks = len(counts)
    sizes: list[int] = []
    moves: list[Move] = []
    for window, here in enumerate(zip(*counts, strict=True)):
        rows = max(1, math.ceil(sum(here) / ranks))
        used = min(steps, math.ceil(rows / largest))
        if window == first and steps > 1:
            used = max(used, 2)
        rows = max(rows, used)
        full = [rows // used + (i < rows % used) for i in range(used)]
        head = full[:1] if window == first and steps > 1 else []
        sizes += [*head, *[0] * (steps - used), *full[len(head) :]]
        moves += _moves(window, here, rows)
    return RowPlan(sizes, moves)


def _moves(window: int, counts: Sequence[int], rows: int) -> list[Move]:
    """Take what each rank has beyond `rows` to those that have fewer."""
    moves = []
    spare = [[rank, count - rows] for rank, count in enumerate(counts) if count > rows]
    room = [[rank, rows - count] for rank, count in enumerate(counts) if count < rows]
    while spare:
        number = min(spare[0][1], room[0][1])
        moves.append(Move(window, spare[0][0], room[0][0], number))
        spare[0][1] -= number
        room[0][1] -= number
        spare, room = ([entry for entry in side if entry[1]] for side in (spare, room))
    return moves
