"""Wrong answers from a file: what `train keep_wrong_answers`, `repair collect` or people wrote, or rows of your own.

    {"id": "17", "question": "...", "image": "images/17.png", "answer": "11", "draft": "...", "reference": "..."}

The fields are those of a repair set (`data.repair_set`), whose `repaired` is not needed here, and `answer`, the right
final answer by which repairs are graded. Where it is missing, the final answer of `reference` takes its place. `images`
is read as `image`.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from difference_feedback.data.conversations import Conversation
from difference_feedback.data.pictures import Opener
from difference_feedback.data.repair_set import read_example
from difference_feedback.errors import DataError, FieldError
from difference_feedback.runs.jsonl import RowProblem, read_input

_FIELD = re.compile(r"field '(\w+)': ")  # how errors of `read_example` begin


@dataclass(frozen=True)
class DraftRow:
    """A question with a wrong answer to it, and a right one. It is a `data.question.Question`."""

    id: str
    line: int
    question: str
    images: Sequence[Image.Image]
    answer: str
    """The right final answer; empty where the row has none."""
    prompt: Conversation
    draft: str
    reference: str | None
    options: tuple[str, ...] = ()
    task: str = ""
    rule: str | None = None
    """By what the answers of the row were graded, where the row says so."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """The row's own fields, images excepted."""
    asked: str = ""
    """The same for all rows with this question on these images, and for no other."""


@dataclass(frozen=True)
class DraftRows:
    """The rows that can be used, and for each of the others where it stands and what is wrong with it."""

    rows: list[DraftRow]
    problems: list[RowProblem]


def load_draft_rows(path: Path, system: str | None = None, max_pixels: int = 1_003_520) -> DraftRows:
    """Read a JSONL file. Images are measured, and opened when they are taken; larger ones are scaled down.

    `system` is the system message of rows that do not say in which conversation the wrong answer was given.

    Raises `DataError` where the file cannot be read, or not one row can be used.
    """
    found, problems = read_input(path)
    opener = Opener(None, str(path), path.parent, 28, max_pixels)
    rows: dict[str, DraftRow] = {}
    for line, values in found:
        try:
            row = _read(values, line, opener, system)
            before = rows.get(row.id)
            if before is not None and (before.question, before.draft) != (row.question, row.draft):
                raise FieldError("id", f"{row.id!r} is line {before.line}'s too; give each row its own")
        except FieldError as error:
            problems.append(RowProblem(line, error.field, str(error)))
            continue
        except DataError as error:
            named = _FIELD.match(str(error))
            problems.append(RowProblem(line, named and named[1], str(error)[named.end() if named else 0 :]))
            continue
        rows.setdefault(row.id, row)
    if not rows:
        listed = "; ".join(str(problem) for problem in problems[:5])
        raise DataError(f"{path}: no row can be used: {listed}")
    return DraftRows(list(rows.values()), sorted(problems, key=lambda problem: problem.line))


def _read(values: Mapping[str, Any], line: int, opener: Opener, system: str | None) -> DraftRow:
    row = {name: value for name, value in values.items() if name not in ("repair", "repaired", "annotator", "images")}
    if row.get("image") is None:
        row["image"] = values.get("images")
    example = read_example(row | {"repaired": values.get("draft")}, line, opener)
    answer = values.get("answer")
    infinite = isinstance(answer, float) and not math.isfinite(answer)
    if infinite or isinstance(answer, bool) or not isinstance(answer, str | int | float | None):
        raise FieldError("answer", f"the value is {answer!r}; give the right final answer as a text or a number")
    options = values.get("options") or []
    if not isinstance(options, list) or not all(isinstance(option, str | int | float) for option in options):
        raise FieldError("options", f"the value is {str(options)[:40]!r}; give a list of texts, or leave it out")
    text = "" if answer is None else str(answer).strip()
    if not text and not example.reference:
        raise FieldError("answer", "missing, and there is no reference; give the right final answer")
    rule, task = values.get("rule"), values.get("task")
    return DraftRow(
        id=example.id,
        line=line,
        question=example.question,
        images=example.images,
        answer=text,
        prompt=example.prompt_with(system),
        draft=example.draft,
        reference=example.reference,
        options=tuple(map(str, options)),
        task=task if isinstance(task, str) else "",
        rule=rule if isinstance(rule, str) else None,
        asked=hashlib.sha1(json.dumps([example.question, row["image"]]).encode()).hexdigest()[:12],
        columns={name: value for name, value in values.items() if name not in ("image", "images")},
    )
