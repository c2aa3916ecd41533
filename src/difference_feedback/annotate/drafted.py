"""Drafted repairs: made ahead in a thread, kept in `X.drafted.jsonl` beside the items `X.jsonl`."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from difference_feedback.annotate.drafters import Drafters
from difference_feedback.annotate.followed import FollowedFile
from difference_feedback.runs.jsonl import JsonLines

BATCH = 4  # items drafted at a time
FAILURES = 2  # failed batches one after the other, after which no more is asked for
PATIENCE = 10.0  # seconds that `stop` waits for the thread


@dataclass(frozen=True)
class DraftedRepair:
    """A repair of the item `id` that no person has checked. `by` is the model's name, or `sibling`."""

    id: str
    text: str
    by: str


class DraftedRepairs:
    """The drafted repairs of `items` in the file `path`: those of `drafters`, or without them the last of each item.

    A row holds the wrong answer as well. It does not count any more when the item has another one.
    """

    def __init__(self, path: Path, items: Sequence[Mapping[str, Any]], drafters: Drafters | None = None) -> None:
        self.drafters = drafters
        self.file = JsonLines(path)
        self._items = items  # the rows may change while people work
        self._followed = FollowedFile(path)
        self._reading = threading.Lock()
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}
        self._wanted = 0
        self._unanswered: set[str] = set()
        self._failure = ""
        self._thread: threading.Thread | None = None

    @property
    def exist(self) -> bool:
        """Whether there is a drafted repair, or will be one."""
        self._read()
        rows = (self._rows.get((item["id"], item["draft"])) for item in self._items)
        return self.drafters is not None or any(row and row["drafted"] for row in rows)

    def of(self, item: Mapping[str, Any]) -> DraftedRepair | None:
        """The drafted repair of an item; None if it has no draft yet."""
        row = self._row(item)
        return DraftedRepair(item["id"], row["drafted"], str(row["drafted_by"])) if row and row["drafted"] else None

    def awaited(self, item: Mapping[str, Any]) -> bool:
        """Whether the item's drafted repair is still to come."""
        working = self._thread is not None and self._thread.is_alive()
        return working and item["id"] not in self._unanswered and self._row(item) is None

    def reason(self, item: Mapping[str, Any]) -> str:
        """Why the item has no drafted repair, in a sentence; empty where none was asked for."""
        if self.drafters is None:
            return ""
        if self.awaited(item):
            return "The drafted repair is being made. You can begin with the wrong answer."
        if self._row(item) is not None:
            return f"{self.drafters.name} has no repair of this answer to offer."
        if self._failure:
            return self._failure
        return f"{self.drafters.name} did not answer. The next start of the page asks again."

    def want(self, place: int) -> None:
        """Draft this item next, and then those behind it."""
        self._wanted = place

    def start(self, repaired: Callable[[], Iterable[str]], report: Callable[[str], None]) -> None:
        """Draft all items but those that `repaired` names, in a thread. `report` hears of what fails."""
        self._thread = threading.Thread(target=self._work, args=(repaired, report), daemon=True)
        self._thread.start()

    def stop(self) -> bool:
        """Draft no more. Returns whether the thread has ended; it may still load a model, or wait for a server."""
        if self.drafters is None or self._thread is None:
            return True
        self.drafters.stopped.set()
        self._thread.join(PATIENCE)
        return not self._thread.is_alive()

    def _work(self, repaired: Callable[[], Iterable[str]], report: Callable[[str], None]) -> None:
        assert self.drafters is not None
        failures, stopped = 0, self.drafters.stopped
        while failures < FAILURES and not stopped.is_set() and (items := self._batch(repaired)):
            try:
                self._draft(items)
                failures = 0
            except Exception as error:  # of any kind: people go on without these drafted repairs
                if stopped.is_set():
                    return
                failures += 1
                self._unanswered |= {item["id"] for item in items}
                reason = str(error) or type(error).__name__
                report(f"No repair of {', '.join(item['id'] for item in items)} is drafted: {reason}")
                if failures == FAILURES:
                    self._failure = f"No more repairs are drafted: {reason}"
                    report(self._failure)

    def _draft(self, items: Sequence[Mapping[str, Any]]) -> None:
        assert self.drafters is not None
        for item, drafted in zip(items, self.drafters.draft(items), strict=True):
            if drafted is None:
                self._unanswered.add(item["id"])
                continue
            row = {"id": item["id"], "draft": item["draft"], "drafted": drafted.text, "drafted_by": drafted.by}
            self.file.append(row | {"asked": self.drafters.name, "time": round(time.time())})

    def _batch(self, repaired: Callable[[], Iterable[str]]) -> list[Mapping[str, Any]]:
        items, start = list(self._items), self._wanted
        finished = {*self._unanswered, *repaired()}
        waiting = (item for item in chain(items[start:], items[:start]) if item["id"] not in finished)
        self._read()
        batch = list(islice((item for item in waiting if (item["id"], item["draft"]) not in self._rows), BATCH))
        # Nobody waits for more than the item at hand.
        return batch[:1] if batch and start < len(items) and batch[0] is items[start] else batch

    def _row(self, item: Mapping[str, Any]) -> dict[str, Any] | None:
        """The last row of the file for this item with this wrong answer."""
        self._read()
        return self._rows.get((item["id"], item["draft"]))

    def _read(self) -> None:
        """Read what is new in the file."""
        with self._reading:
            changes = self._followed.changes()
            if changes.is_other:
                self._rows.clear()
            for _, row in changes.rows:
                if not {"drafted", "drafted_by", "asked"} <= row.keys() or not isinstance(row["drafted"], str | None):
                    continue
                if self.drafters is None or row["asked"] == self.drafters.name:
                    self._rows[str(row.get("id")), str(row.get("draft"))] = row
