"""Work on each row of a file that somebody names to a command, on several cores where the file is large."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from difference_feedback.runs.jsonl import InputCheck, Row, RowProblem, input_row, is_row, raw_lines
from difference_feedback.runs.workers import in_order

Result = TypeVar("Result")
_PART = 2**18  # bytes of a file that a process gets at a time


def work_on_input(path: Path, work: Callable[[Row | RowProblem], Result], jobs: int | None = 1) -> Iterator[Result]:
    """`work(row)` of every line that `iterate_input` yields, in their order, on as many cores as `in_order` takes.

    Raises `DataError` as both do.
    """
    check = InputCheck(path)
    for results, row in in_order(partial(_work_on, work), _parts(raw_lines(path), 1 if jobs == 1 else _PART), jobs):
        if row is not None:
            check.see(row)
        yield from results
    check.finish()


def _work_on(
    work: Callable[[Row | RowProblem], Result], part: list[tuple[int, bytes]]
) -> tuple[list[Result], Row | RowProblem | None]:
    """The results, and what tells that the part has a row: one without its values, or else the first problem."""
    rows = [row for number, line in part if (row := input_row(number, line))]
    first = next((Row(row.line, {}) for row in rows if is_row(row)), rows[0] if rows else None)
    return [work(row) for row in rows], first


def _parts(lines: Iterable[tuple[int, bytes]], size: int) -> Iterator[list[tuple[int, bytes]]]:
    part: list[tuple[int, bytes]] = []
    done = 0
    for number, line in lines:
        part.append((number, line))
        done += len(line)
        if done >= size:
            yield part
            part, done = [], 0
    if part:
        yield part
