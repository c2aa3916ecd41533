"""What people work on: wrong answers to repair, audited repairs to review, from a file or a run's folder.

A row to repair has `id, question, image, draft`, and perhaps `reference, answer, options, rule` (`embedded` for the
embedded world's own grader); a row to review is one of `audits.jsonl`. Images are paths relative to the file, and stay
inside its folder.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.runs.jsonl import RowProblem, read_jsonl, write_jsonl

REPAIRS = ("items.jsonl", "oracle_repairs.jsonl")
AUDITS = "audits.jsonl"


@dataclass(frozen=True)
class Work:
    """Rows of one kind, all usable, and what was wrong with the others."""

    path: Path
    rows: list[dict[str, Any]]
    problems: list[RowProblem]


def find_work(source: Path) -> tuple[Work | None, Work | None]:
    """Answers to repair and audits to review, from a JSONL file or a run's folder; None where there are none.

    Raises `DataError` when not one row can be used, `ConfigError` when there is nothing to work on.
    """
    if source.is_file():
        rows, _ = read_jsonl(source)
        audits = bool(rows) and "repair" in rows[0].values
        return (None, load_work(source, "repair")) if audits else (load_work(source, "draft"), None)
    if not source.is_dir():
        raise ConfigError(f"{source}: no such file or folder; give a JSONL file of wrong answers, or a run's folder")
    if not any((source / name).is_file() for name in REPAIRS) and (source / "examples.jsonl").is_file():
        items_from_examples(source / "examples.jsonl", source / REPAIRS[0])
    repairs = next((source / name for name in REPAIRS if (source / name).is_file()), None)
    # A demo's audits are those of its repair model's run, which stands below `shared`.
    below = [path for pattern in ("*", "shared/*") for path in sorted(source.glob(f"{pattern}/{AUDITS}"))]
    audits_path = next((path for path in (source / AUDITS, *below) if path.is_file()), None)
    if repairs is None and audits_path is None:
        raise ConfigError(
            f"{source} holds nothing to work on: no {', '.join([*REPAIRS, AUDITS])}, no examples.jsonl. `train` keeps "
            "wrong answers with keep_wrong_answers=N, `repair rl` writes audits, `repair collect` makes items."
        )
    return (
        load_work(repairs, "draft") if repairs else None,
        load_work(audits_path, "repair") if audits_path else None,
    )


def load_work(path: Path, needed: str) -> Work:
    """The usable rows of a file; `needed` is the text that is worked on."""
    rows, problems = read_jsonl(path)
    good: dict[str, dict[str, Any]] = {}
    for line, values in rows:
        try:
            _check(values, path.parent, needed)
            if str(values["id"]) in good:
                raise _FieldError("id", f"{values['id']!r} stands on an earlier line too; give each row its own")
        except _FieldError as error:
            problems.append(RowProblem(line, error.field, str(error)))
            continue
        if needed == "draft" or values.get("verdict"):  # audits without a verdict are outages
            good[str(values["id"])] = values | {"id": str(values["id"])}
    if not good:
        listed = "; ".join(str(problem) for problem in problems[:3]) or "it is empty"
        raise DataError(f"{path}: not one row can be used: {listed}")
    return Work(path, list(good.values()), problems)


def images_of(row: Mapping[str, Any]) -> list[str]:
    names = row.get("image") or []
    return [names] if isinstance(names, str) else list(names)


def items_from_examples(examples: Path, output: Path) -> None:
    """Wrong answers of a demo's examples as items, with their images as files beside them."""
    rows, _ = read_jsonl(examples)
    items = []
    for line, values in rows:
        names = []
        for i, url in enumerate(values.get("images", [])):
            names.append(f"images/example-{line}-{i}.png")
            path = output.parent / names[-1]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(base64.b64decode(url.split(",", 1)[1]))
        draft = "".join(token for token in values["wrong"]["tokens"] if token != "⏎").strip()
        items.append(
            {
                **{"id": str(values.get("id") or line), "question": values["question"], "image": names, "draft": draft},
                **{"reference": values.get("reference"), "answer": values.get("answer"), "rule": "embedded"},
            }
        )
    write_jsonl(output, items)


class _FieldError(DataError):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def _check(row: Mapping[str, Any], folder: Path, needed: str) -> None:
    if not isinstance(row.get("id"), str | int) or isinstance(row.get("id"), bool):
        raise _FieldError("id", "missing; every row needs a text or a number of its own")
    for name in ("question", needed):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise _FieldError(name, f"{json.dumps(row.get(name))[:40]}; wanted text that is not empty")
    for name in images_of(row):
        path = (folder / str(name)).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise _FieldError("image", f"{name!r} lies outside the file's folder; copy it beside the file")
        if not path.is_file():
            raise _FieldError("image", f"{name!r} is no file; give a path relative to this file")
