"""The images of items and repair sets: PNG files beside a JSONL file, named by the row's id, whatever the id is."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from difference_feedback.runs.outputs import output_file

FOLDER = "images"


def save_images(images: Sequence[Image.Image], folder: Path, id: str) -> list[str]:
    """Save a row's images below `folder`, where its JSONL file is. Returns their paths, relative to `folder`."""
    names = [f"{FOLDER}/{file_stem(id)}-{number}.png" for number in range(len(images))]
    for name, image in zip(names, images, strict=True):
        save_png(image, folder / name)
    return names


def save_png(image: Image.Image, path: Path) -> None:
    """Write an image whole or not at all. Raises `DataError` as `runs.outputs.output_file` does."""
    with output_file(path) as file:
        image.save(file, "PNG")


def file_stem(id: str) -> str:
    """A part of a file's name that every system takes: the id's readable part, and a hash, so that no two are alike.

    Ids may be URLs, paths, or differ only in letters that a file system takes for the same.
    """
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", id).strip("_-")[:40]
    digest = hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{readable}-{digest}" if readable else digest
