"""Questions as parquet files that verl reads."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from difference_feedback.data.question import Question
from difference_feedback.judges.questions import Grader, Rule, columns_of
from difference_feedback.runs.outputs import output_file
from difference_feedback.verl.stored_images import stored_images

_MARK = re.compile("<(image|video|audio)>")  # what verl fills


def source_of(grader: Grader) -> str:
    """The name of the rule, which `reward.compute_score` reads. Several rewards stand in verl's configuration."""
    return grader.name if isinstance(grader, Rule) else "rewards"


def write_questions(path: Path, questions: Iterable[Question], source: str) -> int:
    """Write chat prompts with `<image>` in the place of each image, and the answers; returns the number of rows.

    `source` is `source_of` their grader. What a reward function of one's own reads is in `extra_info`. Images that are
    files stay where they are: `QuestionDataset` opens and converts them when they are needed.
    """
    rows = [_row(i, question, source) for i, question in enumerate(questions)]
    with output_file(path) as file:
        pq.write_table(pa.Table.from_pylist(rows), file)
    return len(rows)


def _row(index: int, question: Question, source: str) -> dict[str, Any]:
    has_images = len(question.images) > 0
    messages = [
        {"role": message["role"], "content": "".join(_text(part, has_images) for part in message["content"])}
        for message in question.prompt
    ]
    columns = {name: value for name, value in columns_of(question).items() if name != "images"}
    # The columns of one's own file may have values of any type, which parquet does not take.
    own = (getattr(question, "columns", {}).keys() | {"columns"}) - {"answer", "task", "id", "options"}
    others = {name: columns.pop(name) for name in own & columns.keys()}
    return {
        "data_source": source,
        "prompt": messages,
        "images": stored_images(question.images),
        "ability": question.task,
        "reward_model": {"style": "rule", "ground_truth": question.answer},
        "extra_info": {"options": [], **columns, "others": json.dumps(others), "index": index, "prompt": messages},
    }


def _text(part: dict[str, Any] | str, has_images: bool) -> str:
    """A part of a message, or a character of one that is plain text.

    Where a row has images, verl fills every mark, so that one which is meant as text gets a blank.
    """
    if isinstance(part, str):
        return part
    if part["type"] == "image":
        return "<image>"
    return _MARK.sub(r"< \1>", part["text"]) if has_images else part["text"]
