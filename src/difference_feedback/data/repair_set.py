"""Sets of hand-repaired answers: what the repair model is first trained on, as a JSONL file with images. [DF, Eq. 1]

One row an answer:

    {"id": "17", "question": "...", "image": "images/17.png", "draft": "...", "reference": "...", "repaired": "..."}

`image` is a path relative to the file's own folder, or a list of them for several images. `prompt` is the conversation
in which the draft was given, and what the repair model reads; without it, that is the question alone, its images at its
marks. `reference` may be null or empty: the row then teaches to repair without one. `repaired` may be called `repair`.
Other keys are ignored.

Rows of the annotation page have an `annotator` as well. A later row of the same id and annotator replaces the earlier
one; repairs of one answer by several annotators are all used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from difference_feedback.data.conversations import (
    Conversation,
    placed_conversation,
    stored_conversation,
    with_system,
)
from difference_feedback.data.marks import place
from difference_feedback.data.pictures import LazyImages, Opener, Picture
from difference_feedback.data.saved_images import save_images
from difference_feedback.data.untrusted import neutralise
from difference_feedback.errors import DataError, FieldError
from difference_feedback.runs.file_names import repairs_file
from difference_feedback.runs.jsonl import read_input, write_jsonl
from difference_feedback.runs.renamed import repair_field


@dataclass(frozen=True)
class RepairExample:
    """A wrong answer, a correct one to compare it with, and the repair made by hand."""

    id: str
    question: str
    images: Sequence[Image.Image]
    draft: str
    reference: str | None
    repaired: str
    conversation: Conversation | None = None
    """The one in which the draft was given, where it is known."""

    @property
    def prompt(self) -> Conversation:
        """The conversation in which the draft was given. Where it is not known, it is the question alone."""
        return self.prompt_with(None)

    def prompt_with(self, system: str | None) -> Conversation:
        """`prompt`; where it is not known, with the message `system` before the question."""
        if self.conversation is not None:
            return self.conversation
        return with_system(placed_conversation(self.question, len(self.images)), system)


@dataclass(frozen=True)
class RepairSet:
    """The rows that can be used, and for each of the others where it stands and what is wrong with it."""

    rows: list[RepairExample] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    replaced: int = 0
    """Rows that their annotator has replaced by a later one."""


def load_repair_set(path: str | Path, max_pixels: int = 1_003_520) -> RepairSet:
    """Read a JSONL file of hand-repaired answers, or that of a folder.

    Images are measured, and opened when they are taken. Those of more than `max_pixels` are scaled down.

    A row that cannot be used is left out and listed in `errors`. Raises as `repairs_file`, and `DataError` when
    the file is missing, or when not one row of it can be used.
    """
    path = repairs_file(Path(path).expanduser())
    rows, problems = read_input(path)
    opener = Opener(None, str(path), path.parent, 28, max_pixels)
    errors = [str(problem) for problem in problems]
    seen: dict[str, int] = {}
    good: dict[str, RepairExample] = {}
    replaced = 0
    for number, values in rows:
        try:
            row = read_example(values, number, opener)
            if row.repaired.split() == row.draft.split():
                raise DataError(f"field {repair_field(values)!r}: it is the draft; correct it, or leave the row out")
            if row.id in seen and not values.get("annotator"):
                raise DataError(f"field 'id': {row.id!r} is line {seen[row.id]}'s too; give each row its own")
        except DataError as error:
            errors.append(f"line {number}, {error}")
            continue
        replaced += row.id in seen
        seen[row.id] = number
        good[row.id] = row
    if not good:
        listed = "; ".join(errors[:5])
        raise DataError(f"{path}: not one row can be used: {listed}")
    return RepairSet(list(good.values()), errors, replaced)


def save_repair_set(rows: Sequence[RepairExample], path: str | Path) -> Path:
    """Write `rows` as `load_repair_set` reads them; images go to a folder `images` beside the file, as PNG."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for row in rows:
        line: dict[str, Any] = {"id": row.id, "question": row.question}
        line["image"] = save_images(row.images, path.parent, row.id)
        line |= {"draft": row.draft, "reference": row.reference, "repaired": row.repaired}
        lines.append(line | ({"prompt": row.conversation} if row.conversation else {}))
    write_jsonl(path, lines)
    return path


def read_example(row: dict[str, Any], number: int, opener: Opener) -> RepairExample:
    """The example of a row on line `number` of a file. Raises `DataError` for one that cannot be used."""
    repair = repair_field(row)
    for name in ("question", "draft", repair):
        if not isinstance(row.get(name), str) or not neutralise(row[name]).strip():
            raise DataError(f"field {name!r}: got {row.get(name)!r}, wanted text other than special tokens")
    for name in ("id", "annotator"):
        if row.get(name) is not None and type(row[name]) not in (str, int):
            raise DataError(f"field {name!r}: got {str(row[name])[:40]!r}, wanted a text or a whole number")
    reference = row.get("reference")
    if reference is not None and not isinstance(reference, str):
        raise DataError(f"field 'reference': got {reference!r}, wanted text, or null to teach repairing without one")
    if reference is not None and not neutralise(reference).strip():
        reference = None
    names = row.get("image")
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"field 'image': got {names!r}, wanted a path or a list of paths ([] for none)")
    question, order, conversation = row["question"], list(range(len(names))), None
    if row.get("prompt") is not None:
        conversation = stored_conversation(row["prompt"], len(names))
    else:
        try:
            marked, media = place(question, range(1, len(names) + 1), videos=0)
        except FieldError as error:
            raise DataError(f"field 'question': {error}") from None
        order = [medium.nth for medium in media]
        question = question if marked.endswith(question) else marked  # images go first without any mark
    pictures = [_find(name, number, opener) for name in names]
    images = LazyImages([pictures[i] for i in order], opener)
    name = str(number if row.get("id") in (None, "") else row["id"]) + (
        f" by {row['annotator']}" if row.get("annotator") else ""
    )
    return RepairExample(name, question, images, row["draft"], reference, row[repair], conversation)


def _find(name: str, number: int, opener: Opener) -> Picture:
    try:
        picture, _ = opener.find(name, (), number, number)
    except FieldError as error:
        raise DataError(f"field 'image': {error}") from None
    if not picture["path"]:
        raise DataError("field 'image': an image within the row: save it as a file, and give its path")
    return picture
