"""Where people stand in their work. Everything is read from the files again, since others write to them as well."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difference_feedback.annotate.items import Work
from difference_feedback.errors import DataError
from difference_feedback.judges.agreement import Agreement, run_agreement
from difference_feedback.judges.audit import VERDICTS
from difference_feedback.runs.jsonl import JsonLines

CLAIM = 1800.0  # seconds for which an item that someone has opened is not offered to others


@dataclass(frozen=True)
class Progress:
    """Of all items: repaired or reviewed by anyone, skipped by this annotator, and left for them."""

    done: int
    skipped: int
    left: int


class RepairProject:
    """Wrong answers and their repairs: `X.jsonl` -> `X.annotated.jsonl`, which `repair sft` takes as it is."""

    def __init__(self, work: Work, output: Path | None = None) -> None:
        self.items = work.rows
        stem = work.path.with_suffix("")
        self.output = JsonLines(output or stem.with_suffix(".annotated.jsonl"))
        if self.output.path.resolve() == work.path.resolve():
            raise DataError(f"{work.path}: the items themselves are never written to; give another --output")
        self._skips = JsonLines(stem.with_suffix(".skipped.jsonl"))
        self._claims = JsonLines(stem.with_suffix(".claims.jsonl"))

    def repairs(self) -> dict[str, dict[str, str]]:
        """`item -> annotator -> the repair`, the last one of each."""
        found: dict[str, dict[str, str]] = {}
        for _, row in self.output.read()[0]:
            found.setdefault(str(row.get("id")), {})[str(row.get("annotator"))] = str(row.get("repaired"))
        return found

    def progress(self, annotator: str) -> Progress:
        done = self.repairs()
        skipped = self._skipped(annotator) - set(done)
        count = sum(item["id"] in done for item in self.items)
        return Progress(count, len(skipped), len(self.items) - count - len(skipped))

    def next(self, annotator: str, after: int = -1) -> int | None:
        """The next item that nobody has repaired or has open, after `after` and then from the start, and claim it."""
        with self._claims.lock:
            taken = set(self.repairs()) | self._skipped(annotator) | self._claimed_by_others(annotator)
            order = [*range(after + 1, len(self.items)), *range(after + 1)]
            found = next((i for i in order if self.items[i]["id"] not in taken), None)
            if found is not None:
                self._claims.append({"id": self.items[found]["id"], "annotator": annotator, "time": time.time()})
        return found

    def text(self, annotator: str, place: int) -> str:
        """What this annotator made of an item, or its draft."""
        item = self.items[place]
        return self.repairs().get(item["id"], {}).get(annotator, item["draft"])

    def save(self, annotator: str, place: int, repaired: str) -> None:
        """Append the repair. Raises `DataError` for an empty or unchanged one."""
        item = self.items[place]
        if not repaired.strip():
            raise DataError("the repair is empty; skip the item if it cannot be repaired")
        if repaired.strip() == item["draft"].strip():
            raise DataError("nothing is changed; skip the item if nothing is wrong with it")
        self.output.append(item | {"repaired": repaired.strip(), "annotator": annotator, "time": round(time.time())})

    def skip(self, annotator: str, place: int) -> None:
        self._skips.append({"id": self.items[place]["id"], "annotator": annotator, "time": round(time.time())})

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
    """Audited repairs and people's own verdicts on them, in `reviews.jsonl` beside `audits.jsonl`."""

    def __init__(self, work: Work) -> None:
        self.audits = work.path
        self.items = [{name: value for name, value in row.items() if name not in HIDDEN} for row in work.rows]
        self.reviews = JsonLines(work.path.with_name("reviews.jsonl"))

    def verdicts(self, annotator: str) -> dict[str, str]:
        rows = self.reviews.read()[0]
        return {str(row.get("id")): str(row.get("verdict")) for _, row in rows if row.get("annotator") == annotator}

    def progress(self, annotator: str) -> Progress:
        done = set(self.verdicts(annotator))
        count = sum(item["id"] in done for item in self.items)
        return Progress(count, 0, len(self.items) - count)

    def next(self, annotator: str, after: int = -1) -> int | None:
        """The next item without a verdict of this annotator, after `after` and then from the start."""
        done = self.verdicts(annotator)
        order = [*range(after + 1, len(self.items)), *range(after + 1)]
        return next((i for i in order if self.items[i]["id"] not in done), None)

    def save(self, annotator: str, place: int, verdict: str, note: str = "") -> None:
        """Append a verdict. Raises `DataError` for one that is none."""
        if verdict not in VERDICTS:
            raise DataError(f"choose one of {', '.join(VERDICTS)}")
        row = {"id": self.items[place]["id"], "verdict": verdict, "annotator": annotator, "time": round(time.time())}
        self.reviews.append(row | ({"note": note.strip()} if note.strip() else {}))

    def agreement(self) -> Agreement | None:
        """Of all reviews with the auditor."""
        return run_agreement(self.audits, self.reviews.path) if self.reviews.path.is_file() else None


HIDDEN = ("verdict", "evidence", "reason", "auditor")
"""What the auditor said: not in the page before it is left, so that reviewers are not led."""
