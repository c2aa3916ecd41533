"""Rows for trainers whose images are opened as rows are taken, and whose further columns hold values of any type."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset
from PIL import Image


def lazy_rows(
    rows: Sequence[Mapping[str, Any]],
    images: Sequence[Sequence[Image.Image]],
    others: Sequence[Mapping[str, Any]] | None = None,
) -> Dataset:
    """A data set of `rows`, with the column `images`, and the columns that any of `others` has.

    What `rows` hold is of one type in each column. `others` may hold whatever JSON takes, and None where a row lacks a
    column.
    """
    names = dict.fromkeys(name for row in others or () for name in row)
    dataset = Dataset.from_list([{**row, "images": place} for place, row in enumerate(rows)])
    for name in names:
        dataset = dataset.add_column(name, [json.dumps(row.get(name)) for row in others or ()])
    return dataset.with_transform(_Transform(images, frozenset(names)))


class _Transform:
    def __init__(self, images: Sequence[Sequence[Image.Image]], as_json: frozenset[str]) -> None:
        self.images, self.as_json = images, as_json

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        rows: dict[str, list[Any]] = dict(batch)
        for name in self.as_json & rows.keys():
            rows[name] = [json.loads(text) for text in rows[name]]
        if "images" in rows:
            opened = {place: list(self.images[place]) for place in set(rows["images"])}
            rows["images"] = [opened[place] for place in rows["images"]]
        return rows
