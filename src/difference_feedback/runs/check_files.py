"""Find what is wrong with the files of rows that a recipe names, by their first lines."""

import json
import os.path
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from difference_feedback.errors import ConfigError
from difference_feedback.runs.file_names import beside, repairs_file, wrong_answers_file
from difference_feedback.runs.model_folder import check_hub_name, is_local, local_path
from difference_feedback.runs.renamed import repair_field
from difference_feedback.runs.sections import Data

_LINES = 100  # read of a data file
_FILES = (".json", ".ndjson", ".csv", ".tsv", ".gz", ".parquet", ".arrow", ".zip", ".xlsx")


def check_data(data: Data, key: str) -> None:
    """Raise `ConfigError` for a data set that is not there; `key` is where the recipe names it."""
    path = local_path(data.path)
    if path.suffix == ".jsonl" and not path.is_dir() and not _is_no_jsonl(path):
        _check_rows(data.path, f"{key}.path")
    elif (is_local(data.path) or path.suffix in _FILES) and not path.exists():
        raise ConfigError(
            f"{key}.path: {data.path} does not exist: give a file of rows, a folder with one, a saved data set, or a "
            "hub name."
        )
    elif not path.exists():
        check_hub_name(data.path, f"{key}.path", "a data set")
    if data.image_root is not None and not local_path(data.image_root).is_dir():
        raise ConfigError(f"{key}.image_root: {data.image_root} is no folder: give the one that the paths start from.")


def _is_no_jsonl(path: Path) -> bool:
    """Whether a file in spite of its name is in UTF-16, a list, or indented objects. `data.text_files` reads these."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    encoding = json.detect_encoding(head)
    text = head.decode(encoding, "replace").strip()
    is_list = text.startswith("[") and "{" in text
    return not encoding.startswith("utf-8") or is_list or text.partition("\n")[0] == "{"


def check_repairs(name: str) -> None:
    """Raise `ConfigError` where a file holds what `annotate` shows to people: the same rows without their repairs."""
    try:
        path = repairs_file(local_path(name))
    except ConfigError as error:
        raise ConfigError(f"data: {error}") from None
    rows = _check_rows(str(path), "data")
    if any(repair_field(row) in row for row in rows) or not any("draft" in row for row in rows):
        return
    annotated = beside(path, "annotated")
    remedy = (
        "which exists: give it"
        if annotated.is_file()
        else f"which does not exist yet: difference-feedback annotate {name}"
    )
    raise ConfigError(f"data: {name} holds answers that nobody has repaired. The repairs go to {annotated}, {remedy}.")


def check_wrong_answers(name: str) -> None:
    """Raise `ConfigError` where a file holds no wrong answers: what `repair check` repairs."""
    try:
        path = wrong_answers_file(local_path(name))
    except ConfigError as error:
        raise ConfigError(f"wrong_answers: {error}") from None
    if not any("draft" in row for row in _check_rows(str(path), "wrong_answers")):
        raise ConfigError(
            f"wrong_answers: {path}: none of its first rows has the field draft: give rows with question, image, "
            "answer, draft (the wrong answer) and reference (a right one)."
        )


def _check_rows(name: str, key: str) -> list[Mapping[str, Any]]:
    """The objects in the first lines of a JSON Lines file that can be read; at least one."""
    if os.path.exists(local_path(name)) and not os.path.isfile(local_path(name)):
        what = "a folder" if os.path.isdir(local_path(name)) else "no ordinary file"
        raise ConfigError(f"{key}: {name} is {what}: give a JSON Lines file.")
    try:
        with local_path(name).open(encoding="utf-8-sig", errors="replace") as file:
            rows = [row for row in map(_parsed, islice(file, _LINES)) if isinstance(row, Mapping)]
    except OSError as error:
        raise ConfigError(f"{key}: {name}: {error.strerror}: give a JSON Lines file that can be read.") from None
    if not rows:
        raise ConfigError(
            f"{key}: {name}: none of its first {_LINES} lines is a JSON object: write one {{...}} a line."
        )
    return rows


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
