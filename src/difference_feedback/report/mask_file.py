"""Masks for all pairs of a file, written to another."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track

from difference_feedback.errors import ConfigError
from difference_feedback.method.alignment import edit_cost
from difference_feedback.report.mask_pairs import MaskedPair, Pair, pair_of
from difference_feedback.report.shown import SpreadSample
from difference_feedback.runs.jsonl import Row, RowProblem, count_lines, to_json, write_jsonl
from difference_feedback.runs.row_work import work_on_input


class PairTotals(NamedTuple):
    """What is summed over pairs."""

    cost: float
    weight: float
    tokens: int

    @classmethod
    def of(cls, pair: MaskedPair) -> "PairTotals":
        weights = pair.wrong_weights
        return cls(edit_cost(pair.alignment), float(weights.sum(dtype=np.float64)), len(weights))


@dataclass
class MaskTotals:
    """What the page says of all pairs, also of those that it does not show."""

    pairs: int = 0
    cost: float = 0.0
    weight: float = 0.0
    tokens: int = 0

    def add(self, pair: PairTotals) -> None:
        """Count the pair."""
        self.pairs += 1
        self.cost += pair.cost
        self.weight += pair.weight
        self.tokens += pair.tokens


@dataclass
class MaskedFile:
    """The result of masking a file: its totals, the pairs that a page shows, and the rows that cannot be used."""

    totals: MaskTotals = field(default_factory=MaskTotals)
    shown: SpreadSample[Pair] = field(default_factory=SpreadSample)
    problems: list[RowProblem] = field(default_factory=list)


class _MaskedRow(NamedTuple):
    """A pair, and its row of the output as JSON with what is summed, or why it cannot be masked."""

    pair: Pair
    result: tuple[str, PairTotals] | RowProblem


def mask_file(
    path: Path,
    output: Path,
    mask: Callable[[Pair], MaskedPair],
    vocabulary: int | None = None,
    show: bool = False,
    console: Console | None = None,
    jobs: int | None = 1,
) -> MaskedFile:
    """Mask the pairs of `path` by `mask`, and write them to `output`. Without any pair, no file is written.

    Token ids must be below `vocabulary`. Pairs are kept for a page only with `show`. `jobs` is that of `work_on_input`,
    and with several, `mask` must be of the kind that can be pickled.

    Raises `DataError` when a file cannot be read or written, or holds no row.
    """
    file, lines = MaskedFile(), count_lines(path)
    line_of: dict[str | int, int] = {}

    def masked() -> Iterator[str]:
        rows = work_on_input(path, partial(_masked_row, mask=mask, vocabulary=vocabulary, show=show), jobs)
        for row in track(rows, "Aligning", lines, console=console, transient=True, disable=lines < 1000):
            if isinstance(row, list):
                file.problems += row
                continue
            pair, result = row
            if pair.id in line_of:
                message = f"line {line_of[pair.id]} already has the id {pair.id!r}; give every row its own id"
                result = RowProblem(pair.line, "id", message)
            else:
                line_of[pair.id] = pair.line
            if isinstance(result, RowProblem):
                file.problems.append(result)
                continue
            text, totals = result
            file.totals.add(totals)
            if show:
                file.shown.add(pair)
            yield text

    results = masked()
    if first := next(results, None):
        write_jsonl(output, chain([first], results))
    file.problems.sort(key=lambda problem: problem.line)
    return file


def _masked_row(
    row: Row | RowProblem, mask: Callable[[Pair], MaskedPair], vocabulary: int | None, show: bool
) -> _MaskedRow | list[RowProblem]:
    pair = pair_of(row, vocabulary)
    if isinstance(pair, list):
        return pair
    shown = pair if show else replace(pair, wrong="", repair="", question=None)
    try:
        masked = mask(pair)
    except ConfigError as error:
        return _MaskedRow(shown, RowProblem(pair.line, None, str(error)))
    return _MaskedRow(shown, (to_json(masked.to_row()), PairTotals.of(masked)))
