"""Rows for trainers whose images are opened as rows are taken, and whose further columns hold values of any type."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
    return dataset.with_transform(LazyColumns(partial(_at_places, images), frozenset(names)))


class LazyColumns:
    """A transform of a data set: `open_images` takes the column `images` as it is stored, and `as_json` are parsed."""

    def __init__(self, open_images: Callable[[list[Any]], list[list[Image.Image]]], as_json: frozenset[str]) -> None:
        self.open_images, self.as_json = open_images, as_json

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        rows: dict[str, list[Any]] = dict(batch)
        for name in self.as_json & rows.keys():
            rows[name] = [json.loads(text) for text in rows[name]]
        if "images" in rows:
            rows["images"] = self.open_images(rows["images"])
        return rows


def _at_places(images: Sequence[Sequence[Image.Image]], places: list[int]) -> list[list[Image.Image]]:
    """The images of the rows at these places. Rows of one place share them."""
    opened = {place: list(images[place]) for place in set(places)}
    return [opened[place] for place in places]
