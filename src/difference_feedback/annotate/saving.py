"""Items on which people work, and what a page may save for them."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from difference_feedback.annotate.item_check import LONGEST
from difference_feedback.annotate.items import WorkFile
from difference_feedback.annotate.shown import Shown, StaleError, digest, item_digest
from difference_feedback.errors import DataError
from difference_feedback.runs.json_values import is_unicode
from difference_feedback.runs.jsonl import JsonLines


@dataclass(frozen=True)
class Progress:
    """Numbers of items: done (repaired by anyone, or reviewed by this annotator), skipped by them, and remaining."""

    done: int
    skipped: int
    remaining: int


@contextmanager
def locked(file: JsonLines) -> Iterator[None]:
    """Hold the lock of a file. Raises `DataError` where its folder cannot be written to."""
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.lock.acquire()
    except OSError as error:
        raise DataError(f"{file.path}: {error.strerror}; nothing was saved. Make its folder writable") from None
    try:
        yield
    finally:
        file.lock.release()


class Project(ABC):
    """Items on which people work, and the file of what they save for them."""

    def __init__(self, work: WorkFile, output: JsonLines) -> None:
        self.items = work.rows
        self.folder = work.path.parent
        self.output = output
        self.work = work
        self.name = digest(type(self).__name__, str(work.path.resolve()), str(output.path.resolve()))
        self._turns = threading.RLock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One turn of a page: it sees all that is saved, and nobody else saves meanwhile.

        Raises `DataError` when a file cannot be read or written.
        """
        with self._turns, locked(self.output):
            self.refresh()
            yield

    @abstractmethod
    def refresh(self) -> None:
        """Read what is new in the files."""

    @abstractmethod
    def saved(self, annotator: str, place: int) -> str | None:
        """What this annotator has saved for an item, as a text; None for nothing."""

    @abstractmethod
    def next(self, annotator: str, after: int = -1) -> int | None:
        """The next item for this annotator, searched behind `after`, then from the first item; None if none remains."""

    def first(self, annotator: str) -> int:
        """The item that a page opens with: the next one, or the last of all where none remains."""
        place = self.next(annotator)
        return len(self.items) - 1 if place is None else place

    def shown(self, annotator: str, place: int) -> Shown:
        """What a page that shows this item now must send back."""
        item = self.items[place]
        saved = self.saved(annotator, place)
        state = "" if saved is None else digest(saved)
        return Shown(self.name, annotator, item["id"], item_digest(item), state)

    def place_of(self, shown: Shown | None, annotator: str) -> int:
        """The place of the item that a page shows. Raises `StaleError` when it shows what is no longer so."""
        if shown is None or shown.project != self.name:
            raise StaleError("The server was started anew with other items. Nothing was saved.", None)
        place = self.work.places.get(shown.id)
        if place is None:
            raise StaleError(f"Item {shown.id} is no longer in {self.work.path.name}. Nothing was saved.", None)
        if shown.annotator != annotator:
            raise StaleError(
                f"The page was opened by {shown.annotator}, and saves for {annotator} now. Nothing was saved, and your "
                f"text is kept. Save once more to save as {annotator}.",
                place,
            )
        if shown.item != item_digest(self.items[place]):
            raise StaleError(
                f"Item {shown.id} has changed since it was shown to you. Nothing was saved. Above is the item as it is "
                "now, and your text is kept. Save once more if it suits this item.",
                place,
            )
        saved = self.saved(annotator, place)
        if shown.saved != ("" if saved is None else digest(saved)):
            raise StaleError(
                f"Item {shown.id} was saved in another tab, or by another process, after it was shown to you. Nothing "
                "was overwritten, and your text is kept. Save once more to replace what was saved.",
                place,
                saved,
            )
        return place


def check_text(text: str) -> None:
    """Raise `DataError` for a text that cannot be saved."""
    if len(text) > LONGEST:
        raise DataError(f"The text has {len(text):,} characters: save at most {LONGEST:,}.")
    if not is_unicode(text):
        raise DataError("The text has half of a character: write the whole character.")
