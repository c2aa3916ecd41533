"""What people made of drafted repairs: how many they changed, and by how much."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from difference_feedback.annotate.feedback import is_right, word_cost
from difference_feedback.judges.intervals import wilson_interval


@dataclass(frozen=True)
class Corrections:
    """What people made of the repairs that `by` drafted. Edit costs are in words, the mean over `count` repairs."""

    by: str
    count: int
    changed: int
    wrong: int
    """Saved repairs that the grader calls wrong."""
    cost: float
    """From the drafted repair to the saved one."""
    cost_by_hand: float
    """From the wrong answer to the saved one."""

    def __str__(self) -> str:
        low, high = wilson_interval(self.changed, self.count)
        wrong = f" The grader calls {self.wrong} of them wrong." if self.wrong else ""
        return (
            f"Drafted by {self.by}: people changed {self.changed} of {self.count} repairs "
            f"({self.changed / self.count:.0%}, interval {low:.0%} to {high:.0%}). Mean edit cost {self.cost:.3f} from "
            f"the drafted repairs, {self.cost_by_hand:.3f} from the wrong answers.{wrong}"
        )


@dataclass(frozen=True)
class _Counted:
    """The share of one saved repair in the sums of its drafter."""

    by: str
    changed: bool
    wrong: bool
    cost: float
    cost_by_hand: float


class CorrectionSums:
    """Running sums over saved repairs. A row replaces the earlier one with the same key."""

    def __init__(self) -> None:
        self._uncounted: dict[Hashable, Mapping[str, Any]] = {}
        self._counted: dict[Hashable, _Counted] = {}
        self._sums: dict[str, list[float]] = {}

    def add(self, key: Hashable, row: Mapping[str, Any]) -> None:
        """Take a saved row. It is counted when the figures are next wanted."""
        self._uncounted[key] = row

    def clear(self) -> None:
        """Forget all rows."""
        for rows in (self._uncounted, self._counted, self._sums):
            rows.clear()

    def figures(self, at_most: int | None = None) -> list[Corrections]:
        """The figures of each drafter. With `at_most` so many rows are counted now, and the others in later calls."""
        for key in list(islice(self._uncounted, at_most)):
            row = self._uncounted.pop(key)
            self._add(self._counted.pop(key, None), -1)
            texts = [row.get(name) for name in ("draft", "drafted", "repaired")]
            if row.get("drafted_by") and all(isinstance(text, str) for text in texts):
                draft, drafted, repaired = map(str, texts)
                counted = _Counted(
                    by=str(row["drafted_by"]),
                    changed=drafted != repaired,
                    wrong=is_right(row, repaired) is False,
                    cost=word_cost(drafted, repaired),
                    cost_by_hand=word_cost(draft, repaired),
                )
                self._counted[key] = counted
                self._add(counted, 1)
        return [
            Corrections(by, round(count), round(changed), round(wrong), cost / count, by_hand / count)
            for by, (count, changed, wrong, cost, by_hand) in self._sums.items()
            if round(count)
        ]

    @property
    def uncounted(self) -> int:
        """The number of rows that `figures` has still to count."""
        return len(self._uncounted)

    def _add(self, counted: _Counted | None, sign: int) -> None:
        if counted is not None:
            sums = self._sums.setdefault(counted.by, [0.0] * 5)
            values = (1, counted.changed, counted.wrong, counted.cost, counted.cost_by_hand)
            self._sums[counted.by] = [total + sign * value for total, value in zip(sums, values, strict=True)]
