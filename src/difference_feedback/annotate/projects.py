"""People's repairs of wrong answers: what is done, what remains, and what a page may save.

Others write to the same files, so each turn of a page reads what is new in them; nothing is read twice.
"""

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from difference_feedback.annotate.corrections import Corrections, CorrectionSums
from difference_feedback.annotate.drafted import DraftedRepair, DraftedRepairs
from difference_feedback.annotate.drafters import Drafters
from difference_feedback.annotate.followed import FollowedFile
from difference_feedback.annotate.item_check import images_of
from difference_feedback.annotate.items import WorkFile
from difference_feedback.annotate.remaining import Remaining
from difference_feedback.annotate.saving import Progress, Project, check_text, locked
from difference_feedback.errors import DataError
from difference_feedback.runs.file_names import beside
from difference_feedback.runs.jsonl import JsonLines
from difference_feedback.runs.outputs import explain, write_atomically

COUNTED = 40  # saved repairs whose edits are counted at a time
CLAIM = 1800.0  # seconds: an item that someone has opened is not offered to others for this long


class RepairProject(Project):
    """Wrong answers in `X.jsonl`, and their repairs in `X.annotated.jsonl`, which `repair sft` reads as it is.

    `drafted` has the repairs that `drafters` write for people to correct.
    """

    def __init__(self, work: WorkFile, output: Path | None = None, drafters: Drafters | None = None) -> None:
        super().__init__(work, JsonLines(output or beside(work.path, "annotated")))
        if self.output.path.resolve() == work.path.resolve():
            raise DataError(f"{work.path}: repairs cannot be written into the file of the items; give another --output")
        self.drafted = DraftedRepairs(beside(work.path, "drafted"), self.items, drafters)
        self._skips = JsonLines(beside(work.path, "skipped"))
        self._claims = JsonLines(beside(work.path, "claims"))
        self._saved_file, self._skips_file, self._claims_file = (
            FollowedFile(file.path) for file in (self.output, self._skips, self._claims)
        )
        self._repairs: dict[str, dict[str, str]] = {}
        self._done = 0
        self._skipped: dict[str, set[str]] = {}
        self._claimed: dict[str, tuple[str, float]] = {}
        self._sums = CorrectionSums()
        self._remaining = Remaining(self._is_open)
        self._remaining.restart(len(self.items))
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

    def refresh(self) -> None:
        """Read what is new in the files."""
        change = self.work.refresh()
        if change != "same":
            more = change == "more"
            (self._remaining.extend if more else self._remaining.restart)(len(self.items))
            self._done = sum(item["id"] in self._repairs for item in self.items)
        saved, skips = self._saved_file.changes(), self._skips_file.changes()
        if saved.is_other or skips.is_other:
            if saved.is_other:
                self._repairs.clear()
                self._sums.clear()
                self._done = 0
            if skips.is_other:
                self._skipped.clear()
            self._remaining.restart(len(self.items))
        for _, row in saved.rows:
            self._take(str(row.get("id")), str(row.get("annotator")), row)
        for _, row in skips.rows:
            name, annotator = str(row.get("id")), str(row.get("annotator"))
            self._skipped.setdefault(annotator, set()).add(name)
            if name in self.work.places:
                self._remaining.close(self.work.places[name], annotator)

    def repairs(self) -> dict[str, dict[str, str]]:
        """`item id -> annotator -> repair`, the last repair of each annotator."""
        with self.turn():
            return {name: dict(repairs) for name, repairs in self._repairs.items()}

    def repaired(self) -> set[str]:
        """The ids of the items that anybody has repaired."""
        with self.turn():
            return set(self._repairs)

    def corrections(self, at_most: int | None = None) -> list[Corrections]:
        """What people made of drafted repairs, for each drafter. `at_most` is as in `CorrectionSums.figures`."""
        with self.turn():
            return self._sums.figures(at_most)

    def count_all(self) -> None:
        """Count all saved repairs for `corrections`, some at a time, so that turns of a page come between."""
        self.corrections(COUNTED)
        while self.uncounted:
            time.sleep(0.05)
            self.corrections(COUNTED)

    @property
    def uncounted(self) -> int:
        """Saved repairs that `corrections` does not count yet."""
        return self._sums.uncounted

    def progress(self, annotator: str) -> Progress:
        """How far this annotator is."""
        with self.turn():
            remaining = self._remaining.number(annotator)
            return Progress(self._done, len(self.items) - self._done - remaining, remaining)

    def next(self, annotator: str, after: int = -1) -> int | None:
        """Claim the next item that nobody has repaired and nobody else has open; None when there is none.

        The search starts behind `after` and goes on from the first item.
        """
        with self.turn(), locked(self._claims):
            claims, now = self._claims_of_all(), time.time()
            for place in self._remaining.behind(after, annotator):
                name = self.items[place]["id"]
                holder, since = claims.get(name, (annotator, 0.0))
                if holder == annotator or now - since >= CLAIM:
                    self._claims.append({"id": name, "annotator": annotator, "time": now})
                    return place
        return None

    def saved(self, annotator: str, place: int) -> str | None:
        """This annotator's repair of an item."""
        return self._repairs.get(self.items[place]["id"], {}).get(annotator)

    def text(self, annotator: str, place: int, drafted: DraftedRepair | None = None) -> str:
        """This annotator's repair of an item, or else the drafted one, or else the item's draft."""
        with self.turn():
            saved = self.saved(annotator, place)
        return saved if saved is not None else drafted.text if drafted else self.items[place]["draft"]

    def check(self, place: int, repaired: str) -> None:
        """Raise `DataError` for a repair that is empty, unchanged, too long, or cannot be written to a file."""
        if not repaired.strip():
            raise DataError("The repair is empty: write it, or skip the item if it cannot be repaired.")
        if repaired.strip() == self.items[place]["draft"].strip():
            raise DataError("The answer is unchanged: repair it, or skip the item if it is right.")
        check_text(repaired)

    def save(self, annotator: str, place: int, repaired: str, drafted: DraftedRepair | None = None) -> None:
        """Append the repair. `drafted` is what was shown to the annotator. Raises as `check` does."""
        self.check(place, repaired)
        item, repaired = self.items[place], repaired.strip()
        paths = [self._image_for_output(name) for name in images_of(item)]
        row = item | {"image": paths} | {"repaired": repaired, "annotator": annotator, "time": round(time.time())}
        row |= {"drafted_by": drafted.by if drafted else None}
        if drafted:
            row |= {"drafted": drafted.text, "changed": repaired != drafted.text}
        self.output.append(row)

    def _image_for_output(self, name: str) -> str:
        """The path of an image relative to the repairs. It is copied there if they lie elsewhere.

        What a row names must lie in the folder of its file. Raises `DataError` when the copy cannot be written.
        """
        folder, image = self.output.path.parent, self.folder / name
        path = os.path.relpath(image, folder)
        if not path.startswith(os.pardir) or not image.is_file():
            return path
        try:
            data = image.read_bytes()
            copy = Path("images", hashlib.sha256(data).hexdigest()[:16] + image.suffix)
            if not (folder / copy).exists():
                write_atomically(folder / copy, data)
        except OSError as error:
            raise DataError(f"{explain(error, image)}. Nothing was saved.") from None
        return str(copy)

    def skip(self, annotator: str, place: int) -> None:
        """Do not offer this item to this annotator again."""
        self._skips.append({"id": self.items[place]["id"], "annotator": annotator, "time": round(time.time())})

    def _take(self, name: str, annotator: str, row: Mapping[str, Any]) -> None:
        """Count a saved row."""
        place = self.work.places.get(name)
        if place is not None and name not in self._repairs:
            self._done += 1
            self._remaining.close(place)
        self._repairs.setdefault(name, {})[annotator] = str(row.get("repaired"))
        self._sums.add((name, annotator), row)

    def _is_open(self, place: int, annotator: str) -> bool:
        name = self.items[place]["id"]
        return name not in self._repairs and name not in self._skipped.get(annotator, ())

    def _claims_of_all(self) -> dict[str, tuple[str, float]]:
        """Item id -> who opened it last, and when."""
        claims = self._claims_file.changes()
        if claims.is_other:
            self._claimed.clear()
        now = time.time()
        for _, row in claims.rows:
            when = row.get("time")
            since = float(when) if isinstance(when, int | float) and 0 <= when <= now + CLAIM else 0.0
            self._claimed[str(row.get("id"))] = str(row.get("annotator")), since
        return self._claimed
