"""What people work on: wrong answers to repair and audited repairs to review, from a file or a run's folder.

A row to repair has the fields `id`, `question`, `image` and `draft`, and perhaps `reference`, `answer`, `options` and
`rule` (`embedded` for the embedded world's own grader). A row to review comes from `audits.jsonl`. Images are paths
relative to the file; they must lie inside its folder.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difference_feedback.errors import ConfigError, DataError, FieldError
from difference_feedback.runs.jsonl import RowProblem, read_input, read_jsonl, write_jsonl
from difference_feedback.runs.outputs import write_atomically

REPAIRS = ("items.jsonl", "oracle_repairs.jsonl")
AUDITS = "audits.jsonl"


@dataclass(frozen=True)
class UsableRows:
    """The usable rows of one kind in the file `path`, and the problems of its other rows."""

    path: Path
    rows: list[dict[str, Any]]
    problems: list[RowProblem]


def find_work(source: Path) -> tuple[UsableRows | None, UsableRows | None]:
    """Answers to repair and audits to review, from a JSONL file or a run's folder; None for a kind that is missing.

    Raises `DataError` when no row of a file can be used, and `ConfigError` when there is nothing to work on.
    """
    if source.is_file():
        rows, _ = read_jsonl(source)
        audits = bool(rows) and "repair" in rows[0].values
        return (None, load_work(source, "repair")) if audits else (load_work(source, "draft"), None)
    if not source.is_dir():
        raise ConfigError(f"{source} does not exist; give a JSONL file of wrong answers, or a run's folder")
    if not any((source / name).is_file() for name in REPAIRS) and (source / "examples.jsonl").is_file():
        items_from_examples(source / "examples.jsonl", source / REPAIRS[0])
    repairs = next((source / name for name in REPAIRS if (source / name).is_file()), None)
    # A demo's audits lie in the run of its repair model, below `shared`.
    below = [path for pattern in ("*", "shared/*") for path in sorted(source.glob(f"{pattern}/{AUDITS}"))]
    audits_path = next((path for path in (source / AUDITS, *below) if path.is_file()), None)
    if repairs is None and audits_path is None:
        raise ConfigError(
            f"{source} holds nothing to work on: it has none of {', '.join([*REPAIRS, AUDITS, 'examples.jsonl'])}. "
            "Make them with `train ... keep_wrong_answers=N` (wrong answers), `repair collect` (items), or `repair rl` "
            "(audits)."
        )
    return (
        load_work(repairs, "draft") if repairs else None,
        load_work(audits_path, "repair") if audits_path else None,
    )


def load_work(path: Path, needed: str) -> UsableRows:
    """The usable rows of a file; `needed` is the field with the text that people work on.

    Raises `DataError` when no row can be used.
    """
    rows, problems = read_input(path)
    good: dict[str, dict[str, Any]] = {}
    for line, values in rows:
        try:
            _check(values, path.parent, needed)
            if str(values["id"]) in good:
                raise FieldError("id", f"an earlier line has the id {values['id']!r} too; give each row its own id")
        except FieldError as error:
            problems.append(RowProblem(line, error.field, str(error)))
            continue
        if needed == "draft" or values.get("verdict"):  # audits without a verdict are outages
            good[str(values["id"])] = values | {"id": str(values["id"])}
    if not good:
        listed = "; ".join(str(problem) for problem in problems[:3]) or "the file has no rows"
        raise DataError(f"{path}: no row can be used: {listed}")
    return UsableRows(path, list(good.values()), problems)


def images_of(row: Mapping[str, Any]) -> list[str]:
    """The paths of a row's images."""
    names = row.get("image") or []
    return [names] if isinstance(names, str) else list(names)


def items_from_examples(examples: Path, output: Path) -> None:
    """Write the wrong answers of a demo's examples as items, with their images as files beside them."""
    rows, _ = read_jsonl(examples)
    items = []
    for line, values in rows:
        names = []
        for i, url in enumerate(values.get("images", [])):
            names.append(f"images/example-{line}-{i}.png")
            path = output.parent / names[-1]
            write_atomically(path, base64.b64decode(url.split(",", 1)[1]))
        draft = "".join(token for token in values["wrong"]["tokens"] if token != "⏎").strip()
        items.append(
            {
                "id": str(values.get("id") or line),
                "question": values["question"],
                "image": names,
                "draft": draft,
                "reference": values.get("reference"),
                "answer": values.get("answer"),
                "rule": "embedded",
            }
        )
    write_jsonl(output, items)


def _check(row: Mapping[str, Any], folder: Path, needed: str) -> None:
    if not isinstance(row.get("id"), str | int) or isinstance(row.get("id"), bool):
        raise FieldError("id", "missing, or neither a text nor a number; give each row its own id")
    for name in ("question", needed):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise FieldError(name, f"the value is {json.dumps(row.get(name))[:40]}; give a text that is not empty")
    if not isinstance(row.get("reference") or "", str):
        raise FieldError("reference", f"the value is {json.dumps(row['reference'])[:40]}; give a text, or leave it out")
    for name, value in row.items():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise FieldError(name, "a character is half of a surrogate pair; give the whole character") from None
    for name, kind in (("image", "a path or a list of paths"), ("options", "a list of texts")):
        values = [row[name]] if name == "image" and isinstance(row.get(name), str) else row.get(name) or []
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise FieldError(name, f"the value is {json.dumps(row[name])[:40]}; give {kind}, or leave the field out")
    for name in images_of(row):
        path = (folder / str(name)).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise FieldError("image", f"{name!r} lies outside the file's folder; copy it into that folder")
        if not path.is_file():
            raise FieldError("image", f"{name!r} does not exist; give a path relative to this file")
