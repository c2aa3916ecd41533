"""What a page shows: which item, in which state, to whom. The browser sends it back with all that is done on the page.

A page can be older than the server, than the file of the items, or than what was saved in another tab or process. So
nothing is written because a page is at the third item; it is written because the page names the item that it shows, and
that item is still the same.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from difference_feedback.errors import DataError
from difference_feedback.runs.jsonl import to_json

_READ = ("id", "question", "image", "draft", "repair", "reference", "answer", "options", "rule")
"""The fields of an item that people read, or by which the page grades."""


@dataclass(frozen=True)
class Shown:
    """An item as a page shows it. All but `annotator` and `id` are hashes."""

    project: str
    """The kind of work, the file of the items and the file of what is saved."""
    annotator: str
    id: str
    item: str
    """Question, wrong answer, and all else that is read."""
    saved: str
    """What this annotator had saved for the item; empty for nothing."""

    def to_text(self) -> str:
        """As a text that the page keeps."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: object) -> "Shown | None":
        """What a page sends back; None for anything that is not of this form."""
        try:
            values = json.loads(text) if isinstance(text, str) else None
        except (ValueError, RecursionError):
            return None
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or values.keys() != names:
            return None
        return cls(**values) if all(isinstance(value, str) for value in values.values()) else None


class StaleError(DataError):
    """What a page shows is no longer so. Nothing was written. `place` is where its item is now; None if it is gone."""

    def __init__(self, message: str, place: int | None, saved: str | None = None) -> None:
        super().__init__(message)
        self.place = place
        self.saved = saved
        """What was saved for the item in the meantime, where that is the reason."""


def digest(*parts: object) -> str:
    """A short hash of texts and plain values."""
    return hashlib.sha256(to_json(parts).encode(errors="backslashreplace")).hexdigest()[:16]


def item_digest(item: Mapping[str, Any]) -> str:
    """The hash of what people read of an item."""
    return digest({name: item.get(name) for name in _READ})
