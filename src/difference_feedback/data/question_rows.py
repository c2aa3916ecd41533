"""What `data.dataset` keeps of each row, and the rows as TRL's trainers and reward functions read them."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import datasets
from PIL import Image

from difference_feedback.data.conversations import Conversation, marked_conversation, with_system
from difference_feedback.data.lazy_rows import LazyColumns
from difference_feedback.data.pictures import Opener, Picture

_PICTURE = {
    "path": datasets.Value("string"),
    "row": datasets.Value("int64"),
    "line": datasets.Value("int64"),
    "place": datasets.Value("string"),
    "frame": datasets.Value("int32"),
    "height": datasets.Value("int32"),
    "width": datasets.Value("int32"),
}
FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "question": datasets.Value("string"),
        "images": datasets.List(_PICTURE),
        "answer": datasets.Value("string"),
        "options": datasets.List(datasets.Value("string")),
        "reference": datasets.Value("string"),
        "system": datasets.Value("string"),
        "columns": datasets.Value("string"),
        "line": datasets.Value("int64"),
    }
)
"""`columns` are the row's own, as JSON, since the rows of a file may hold different types."""
_TRAINERS = (
    "prompt",
    "prompts",
    "image",
    "images",
    "completion",
    "completions",
    "completion_ids",
    "tools",
    "environment",
    "environments",
    "trainer_state",
    "log_extra",
    "log_metric",
    "chosen",
    "rejected",
    "messages",
)
"""Columns and arguments that have a meaning for TRL."""


def prompt_of(question: str, system: str | None) -> Conversation:
    """The chat conversation of a row."""
    return with_system(marked_conversation(question), system)


def for_rewards(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Of a file's own columns those that a reward function can get by their names."""
    return {name: value for name, value in columns.items() if name not in (*_TRAINERS, *FEATURES)}


def for_trainers(dataset: datasets.Dataset, opener: Opener) -> datasets.Dataset:
    """The columns prompt, images, id, answer, options, and those of the file. Images are opened as rows are taken.

    `columns` holds all columns of the file, those included whose names have another meaning here.
    """
    texts = dataset["columns"][:]
    parsed = [json.loads(text) for text in texts]
    others = list(dict.fromkeys(name for row in parsed for name in for_rewards(row)))
    rows = dataset.select_columns(["id", "images", "answer", "options"])
    pairs = zip(dataset["question"][:], dataset["system"][:], strict=True)
    rows = rows.add_column("prompt", [json.dumps(prompt_of(question, system)) for question, system in pairs])
    if any(text != "{}" for text in texts):
        rows = rows.add_column("columns", texts)
    if any(dataset["reference"][:]):
        rows = rows.add_column("reference", dataset["reference"][:])
    for name in others:
        rows = rows.add_column(name, [json.dumps(row.get(name)) for row in parsed])
    as_json = frozenset({*others, "prompt", "columns"})
    return rows.with_transform(LazyColumns(partial(_opened, opener), as_json))


def _opened(opener: Opener, rows: list[list[Picture]]) -> list[list[Image.Image]]:
    """The images of rows. They share those that they have in common."""
    images: dict[tuple[Any, ...], Image.Image] = {}
    for key, picture in ((tuple(picture.values()), picture) for row in rows for picture in row):
        if key not in images:
            images[key] = opener.open(picture)
    return [[images[tuple(picture.values())] for picture in row] for row in rows]
