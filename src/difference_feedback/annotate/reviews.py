"""People's verdicts on audited repairs, and how far they agree with the auditor."""

import time
from collections import Counter

from difference_feedback.annotate.followed import FollowedFile
from difference_feedback.annotate.items import WorkFile
from difference_feedback.annotate.remaining import Remaining
from difference_feedback.annotate.saving import Progress, Project, check_text
from difference_feedback.errors import DataError
from difference_feedback.judges.agreement import Agreement, agreement_of
from difference_feedback.judges.audit import VERDICTS
from difference_feedback.runs.jsonl import JsonLines

HIDDEN = ("verdict", "evidence", "reason", "auditor")
"""The auditor's fields. The page never shows them, so that they do not influence reviewers."""


class ReviewProject(Project):
    """Audited repairs in `audits.jsonl`, and people's verdicts on them in `reviews.jsonl` beside it."""

    def __init__(self, work: WorkFile) -> None:
        super().__init__(work, JsonLines(work.path.with_name("reviews.jsonl")))
        self.reviews = self.output
        self._audited: dict[str, str | None] = {}
        self._hide(0)
        self._file = FollowedFile(self.output.path)
        self._verdicts: dict[str, dict[str, str]] = {}
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._remaining = Remaining(lambda place, annotator: self.saved(annotator, place) is None)
        self._remaining.restart(len(self.items))

    def refresh(self) -> None:
        """Read what is new in the files."""
        before = len(self.items)
        change = self.work.refresh()
        reviews = self._file.changes()
        if change == "other" or reviews.is_other:
            if change == "other":
                self._audited.clear()
                self._hide(0)
            verdicts = {} if reviews.is_other else self._verdicts
            self._verdicts, self._pairs = {}, Counter()
            self._remaining.restart(len(self.items))
            for annotator, of_annotator in verdicts.items():
                for name, verdict in of_annotator.items():
                    self._take(name, annotator, verdict)
        elif change == "more":
            self._hide(before)
            self._remaining.extend(len(self.items))
        for _, row in reviews.rows:
            if isinstance(row.get("verdict"), str):
                self._take(str(row.get("id")), str(row.get("annotator")), row["verdict"])

    def verdicts(self, annotator: str) -> dict[str, str]:
        """This annotator's verdicts, by item id."""
        with self.turn():
            return dict(self._verdicts.get(annotator, {}))

    def saved(self, annotator: str, place: int) -> str | None:
        """This annotator's verdict on an item."""
        return self._verdicts.get(annotator, {}).get(self.items[place]["id"])

    def progress(self, annotator: str) -> Progress:
        """How far this annotator is."""
        with self.turn():
            remaining = self._remaining.number(annotator)
            return Progress(len(self.items) - remaining, 0, remaining)

    def next(self, annotator: str, after: int = -1) -> int | None:
        """The next item without a verdict of this annotator, searched behind `after`, then from the first item."""
        with self.turn():
            return next(self._remaining.behind(after, annotator), None)

    def save(self, annotator: str, place: int, verdict: str, note: str = "") -> None:
        """Append a verdict. Raises `DataError` for an unknown one."""
        if verdict not in VERDICTS:
            raise DataError(f"There is no verdict yet: choose one of {', '.join(VERDICTS)}.")
        check_text(note)
        row = {"id": self.items[place]["id"], "verdict": verdict, "annotator": annotator, "time": round(time.time())}
        self.output.append(row | ({"note": note.strip()} if note.strip() else {}))

    def agreement(self) -> Agreement | None:
        """Agreement of all reviews with the auditor; None when there are no reviews."""
        with self.turn():
            return agreement_of(self._pairs) if self._pairs else None

    def _hide(self, start: int) -> None:
        """Keep the auditor's verdicts on the items from `start` on, and take its fields out of what the page has."""
        for item in self.items[start:]:
            self._audited[item["id"]] = item.get("verdict")
            for name in HIDDEN:
                item.pop(name, None)

    def _take(self, name: str, annotator: str, verdict: str) -> None:
        """Count a verdict; an annotator's last one on an item counts."""
        of_annotator = self._verdicts.setdefault(annotator, {})
        if name in self._audited:
            audited = self._audited[name]  # None: there was no auditor to agree with
            if audited and of_annotator.get(name):
                self._pairs[audited, of_annotator[name]] -= 1
            if audited and verdict:
                self._pairs[audited, verdict] += 1
            self._pairs = +self._pairs  # without pairs that no longer occur
            self._remaining.close(self.work.places[name], annotator)
        of_annotator[name] = verdict
