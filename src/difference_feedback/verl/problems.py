"""Questions as parquet files that verl reads."""

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datasets import Dataset

from difference_feedback.data.question import Question, without_images
from difference_feedback.data.question_rows import for_rewards
from difference_feedback.errors import DataError
from difference_feedback.judges.questions import Grader, Rule, columns_of


def source_of(grader: Grader) -> str:
    """What tells `reward.compute_score` the rule: its name. Several rewards are told by verl's configuration."""
    return grader.name if isinstance(grader, Rule) else "rewards"


def write_questions(path: Path, questions: Iterable[Question], source: str) -> int:
    """Write chat prompts with `<image>` in the place of each image, and the answers; returns the number of rows.

    `source` is `source_of` their grader. What a reward function of one's own reads is in `extra_info`.

    Raises:
        DataError: a question whose text contains `<image>`, which verl would replace.
    """
    rows = [_row(i, question, source) for i, question in enumerate(questions)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows).to_parquet(path)
    return len(rows)


def _row(index: int, question: Question, source: str) -> dict[str, Any]:
    content = str(without_images(question.prompt))  # verl fills the places of image parts
    if "<image>" in content or "<video>" in content:
        raise DataError(f"question {index}: verl would replace <image> or <video> in its text; write it differently.")
    messages = [
        {"role": message["role"], "content": "".join(map(_text, message["content"]))} for message in question.prompt
    ]
    columns = {name: value for name, value in columns_of(question).items() if name != "images"}
    own = columns.pop("columns", {})  # rows may hold different types in them: JSON has no types of columns
    columns = {name: value for name, value in columns.items() if name not in for_rewards(own)}
    return {
        "data_source": source,
        "prompt": messages,
        "images": [_png(image) for image in question.images],
        "ability": question.task,
        "reward_model": {"style": "rule", "ground_truth": question.answer},
        "extra_info": {"options": [], **columns, "columns": json.dumps(own), "index": index, "prompt": messages},
    }


def _text(part: dict[str, Any] | str) -> str:
    """A part of a message, or a character of one that is plain text."""
    if isinstance(part, str):
        return part
    return "<image>" if part["type"] == "image" else part["text"]


def _png(image: Any) -> dict[str, Any]:
    """An image as verl reads it. `min_pixels` keeps verl from enlarging images of fewer than 56 x 56 pixels."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "min_pixels": min(image.width * image.height, 56 * 56)}
