"""Whether a row can be worked on: each of its fields has the right kind and size, and its images are there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from difference_feedback.data.conversations import stored_conversation
from difference_feedback.data.named_files import named_file
from difference_feedback.errors import DataError, FieldError
from difference_feedback.runs.json_values import HALF_PAIR, is_unicode

LONGEST = 100_000
"""Characters of a text that people read or write. The page aligns two such texts at every key, in half a second."""
_LONGEST_NAME = 1_000  # characters of an id
_LARGEST_ROW = 5_000_000  # characters of a row as JSON
_MOST_IMAGES = 100
_MOST_OPTIONS = 1_000


def images_of(row: Mapping[str, Any]) -> list[str]:
    """The paths of a row's images."""
    names = row.get("image") or []
    return [names] if isinstance(names, str) else list(names)


def image_path(folder: Path, name: str) -> Path:
    """The file of an image that a row in a file of this folder names. Raises `FieldError` as `named_file` does."""
    if name.startswith(("~/", "file://")):  # what is saved for the row names its images relative to another file
        raise FieldError("image", f"{_shown(name)} is no path relative to this file; give one")
    try:
        return named_file(name, [folder], remedy="copy it into that folder")
    except DataError as error:
        raise FieldError("image", str(error)) from None


def check_item(row: Mapping[str, Any], folder: Path, needed: str) -> None:
    """Raise `FieldError` for the first field that cannot be used. `folder` is the file's own, resolved.

    `needed` is the field with the text that people work on.
    """
    for name, value in row.items():
        _check_characters(name, value)
    if not isinstance(row.get("id"), str | int) or isinstance(row.get("id"), bool):
        raise FieldError("id", "missing, or neither a text nor a number; give each row its own id")
    if len(str(row["id"])) > _LONGEST_NAME:
        raise FieldError("id", f"it has {len(str(row['id'])):,} characters; give at most {_LONGEST_NAME:,}")
    for name in ("question", needed):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise FieldError(name, f"the value is {_shown(row.get(name))}; give a text that is not empty")
    for name in ("reference", "rule", *(("verdict",) if needed == "repair" else ())):
        if not isinstance(row.get(name), str | None):
            raise FieldError(name, f"the value is {_shown(row[name])}; give a text, or leave it out")
    if needed == "repair" and not isinstance(row.get("draft"), str):
        raise FieldError("draft", f"the value is {_shown(row.get('draft'))}; give the wrong answer as a text")
    if not isinstance(row.get("answer"), str | int | float | None):
        raise FieldError("answer", f"the value is {_shown(row['answer'])}; give a text or a number, or leave it out")
    for name in ("question", "draft", "repair", "reference", "answer", "rule"):
        if isinstance(row.get(name), str) and len(row[name]) > LONGEST:
            raise FieldError(name, f"it has {len(row[name]):,} characters; give at most {LONGEST:,}")
    options = _texts(row, "options", "a list of texts", _MOST_OPTIONS)
    if sum(map(len, options)) > LONGEST:
        raise FieldError("options", f"they have {sum(map(len, options)):,} characters; give at most {LONGEST:,}")
    names = _texts(row, "image", "a path or a list of paths", _MOST_IMAGES)
    for name in names:
        image_path(folder, name)
    if row.get("prompt") is not None:
        try:
            stored_conversation(row["prompt"], len(names))
        except DataError as error:
            raise FieldError("prompt", str(error)) from None


def _texts(row: Mapping[str, Any], name: str, kind: str, most: int) -> list[str]:
    values = row.get(name)
    values = [values] if name == "image" and isinstance(values, str) and values else values
    if values in (None, ""):
        return []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise FieldError(name, f"the value is {_shown(row[name])}; give {kind}, or leave the field out")
    if len(values) > most:
        raise FieldError(name, f"there are {len(values):,}; give at most {most:,}")
    return values


def _check_characters(name: str, value: Any) -> None:
    """Refuse what cannot be written to a file, or is so large that it is no item's."""
    text = json.dumps([name, value], ensure_ascii=False)
    if len(text) > _LARGEST_ROW:
        raise FieldError(name, f"it has {len(text):,} characters; give at most {_LARGEST_ROW:,}")
    if not is_unicode(text):
        raise FieldError(name, HALF_PAIR)


def _shown(value: Any) -> str:
    """The start of a value for a message."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text):,} characters)"
