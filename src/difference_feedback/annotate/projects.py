"""What people have done and what remains. Every call reads the files again, because others write to them too."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from difference_feedback.annotate.drafted import DraftedRepair, DraftedRepairs
from difference_feedback.annotate.drafters import Drafters
from difference_feedback.annotate.feedback import is_right, word_cost
from difference_feedback.annotate.items import UsableRows, images_of
from difference_feedback.errors import DataError
from difference_feedback.judges.agreement import Agreement, run_agreement
from difference_feedback.judges.audit import VERDICTS
from difference_feedback.judges.intervals import wilson_interval
from difference_feedback.runs.file_names import beside
from difference_feedback.runs.jsonl import JsonLines

CLAIM = 1800.0  # seconds: an item that someone has opened is not offered to others for this long


@dataclass(frozen=True)
class Progress:
    """Numbers of items: done (repaired by anyone, or reviewed by this annotator), skipped by them, and remaining."""

    done: int
    skipped: int
    remaining: int


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


class RepairProject:
    """Wrong answers in `X.jsonl`, and their repairs in `X.annotated.jsonl`, which `repair sft` reads as it is.

    `drafted` has the repairs that `drafters` write for people to correct.
    """

    def __init__(self, work: UsableRows, output: Path | None = None, drafters: Drafters | None = None) -> None:
        self.items = work.rows
        self.folder = work.path.parent
        self.output = JsonLines(output or beside(work.path, "annotated"))
        if self.output.path.resolve() == work.path.resolve():
            raise DataError(f"{work.path}: repairs cannot be written into the file of the items; give another --output")
        self.drafted = DraftedRepairs(beside(work.path, "drafted"), self.items, drafters)
        self._skips = JsonLines(beside(work.path, "skipped"))
        self._claims = JsonLines(beside(work.path, "claims"))
        self.old_output: Path | None = None
        """A file with repairs of these items that an earlier version named wrongly. They are copied from there."""
        for file in (self.output, self._claims, self._skips):
            file.check()
        old = work.path.with_suffix("").with_suffix(".annotated.jsonl")  # cut `qwen2.5-vl` to `qwen2`
        if output is None and old != self.output.path and old.is_file() and not self.output.path.exists():
            drafts = {item["id"]: item["draft"] for item in self.items}
            rows = [row for _, row in JsonLines(old).read()[0] if drafts.get(str(row.get("id"))) == row.get("draft")]
            if rows:
                self.output.append(*rows)
                self.old_output = old

    def repairs(self) -> dict[str, dict[str, str]]:
        """`item id -> annotator -> repair`, the last repair of each annotator."""
        repairs: dict[str, dict[str, str]] = {}
        for (name, annotator), row in self._saved().items():
            repairs.setdefault(name, {})[annotator] = str(row.get("repaired"))
        return repairs

    def corrections(self) -> list[Corrections]:
        """What people made of drafted repairs, for each drafter."""
        rows: dict[str, list[Mapping[str, Any]]] = {}
        for row in self._saved().values():
            if row.get("drafted_by") and isinstance(row.get("drafted"), str) and isinstance(row.get("repaired"), str):
                rows.setdefault(str(row["drafted_by"]), []).append(row)
        return [
            Corrections(
                by,
                len(of_drafter),
                sum(row["drafted"] != row["repaired"] for row in of_drafter),
                sum(is_right(row, row["repaired"]) is False for row in of_drafter),
                mean(word_cost(row["drafted"], row["repaired"]) for row in of_drafter),
                mean(word_cost(row["draft"], row["repaired"]) for row in of_drafter),
            )
            for by, of_drafter in rows.items()
        ]

    def progress(self, annotator: str) -> Progress:
        """How far this annotator is."""
        done = self.repairs()
        skipped = self._skipped(annotator) - set(done)
        count = sum(item["id"] in done for item in self.items)
        return Progress(count, len(skipped), len(self.items) - count - len(skipped))

    def next(self, annotator: str, after: int = -1) -> int | None:
        """Claim the next item that nobody has repaired and nobody else has open; None when there is none.

        The search starts behind `after` and goes on from the first item.
        """
        with self._claims.lock:
            taken = set(self.repairs()) | self._skipped(annotator) | self._claimed_by_others(annotator)
            place = _next_place(self.items, taken, after)
            if place is not None:
                self._claims.append({"id": self.items[place]["id"], "annotator": annotator, "time": time.time()})
        return place

    def text(self, annotator: str, place: int, drafted: DraftedRepair | None = None) -> str:
        """This annotator's repair of an item, or else the drafted one, or else the item's draft."""
        item = self.items[place]
        start = drafted.text if drafted else item["draft"]
        return self.repairs().get(item["id"], {}).get(annotator, start)

    def check(self, place: int, repaired: str) -> None:
        """Raise `DataError` for an empty or unchanged repair."""
        if not repaired.strip():
            raise DataError("The repair is empty: write it, or skip the item if it cannot be repaired.")
        if repaired.strip() == self.items[place]["draft"].strip():
            raise DataError("The answer is unchanged: repair it, or skip the item if it is right.")

    def save(self, annotator: str, place: int, repaired: str, drafted: DraftedRepair | None = None) -> None:
        """Append the repair. `drafted` is what was shown to the annotator. Raises as `check` does."""
        self.check(place, repaired)
        item, repaired = self.items[place], repaired.strip()
        paths = [os.path.relpath(self.folder / name, self.output.path.parent) for name in images_of(item)]
        row = item | {"image": paths} | {"repaired": repaired, "annotator": annotator, "time": round(time.time())}
        row |= {"drafted_by": drafted.by if drafted else None}
        if drafted:
            row |= {"drafted": drafted.text, "changed": repaired != drafted.text}
        self.output.append(row)

    def skip(self, annotator: str, place: int) -> None:
        """Do not offer this item to this annotator again."""
        self._skips.append({"id": self.items[place]["id"], "annotator": annotator, "time": round(time.time())})

    def _saved(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The last row of each item and annotator."""
        return {(str(row.get("id")), str(row.get("annotator"))): row for _, row in self.output.read()[0]}

    def _skipped(self, annotator: str) -> set[str]:
        return {str(row.get("id")) for _, row in self._skips.read()[0] if row.get("annotator") == annotator}

    def _claimed_by_others(self, annotator: str) -> set[str]:
        holders: dict[str, Mapping[str, Any]] = {str(row.get("id")): row for _, row in self._claims.read()[0]}
        now = time.time()
        return {
            name
            for name, row in holders.items()
            if row.get("annotator") != annotator and now - float(row.get("time", 0)) < CLAIM
        }


class ReviewProject:
    """Audited repairs in `audits.jsonl`, and people's verdicts on them in `reviews.jsonl` beside it."""

    def __init__(self, work: UsableRows) -> None:
        self.audits = work.path
        self.items = [{name: value for name, value in row.items() if name not in HIDDEN} for row in work.rows]
        self.reviews = JsonLines(work.path.with_name("reviews.jsonl"))
        self.reviews.check()

    def verdicts(self, annotator: str) -> dict[str, str]:
        """This annotator's verdicts, by item id."""
        rows = self.reviews.read()[0]
        return {str(row.get("id")): str(row.get("verdict")) for _, row in rows if row.get("annotator") == annotator}

    def progress(self, annotator: str) -> Progress:
        """How far this annotator is."""
        done = set(self.verdicts(annotator))
        count = sum(item["id"] in done for item in self.items)
        return Progress(count, 0, len(self.items) - count)

    def next(self, annotator: str, after: int = -1) -> int | None:
        """The next item without a verdict of this annotator, searched behind `after`, then from the first item."""
        return _next_place(self.items, set(self.verdicts(annotator)), after)

    def save(self, annotator: str, place: int, verdict: str, note: str = "") -> None:
        """Append a verdict. Raises `DataError` for an unknown one."""
        if verdict not in VERDICTS:
            raise DataError(f"There is no verdict yet: choose one of {', '.join(VERDICTS)}.")
        row = {"id": self.items[place]["id"], "verdict": verdict, "annotator": annotator, "time": round(time.time())}
        self.reviews.append(row | ({"note": note.strip()} if note.strip() else {}))

    def agreement(self) -> Agreement | None:
        """Agreement of all reviews with the auditor; None when there are no reviews."""
        return run_agreement(self.audits, self.reviews.path) if self.reviews.path.is_file() else None


def _next_place(items: Sequence[Mapping[str, Any]], taken: set[str], after: int) -> int | None:
    order = [*range(after + 1, len(items)), *range(after + 1)]
    return next((i for i in order if items[i]["id"] not in taken), None)


HIDDEN = ("verdict", "evidence", "reason", "auditor")
"""The auditor's fields. The page never holds them, so that they do not influence reviewers."""
