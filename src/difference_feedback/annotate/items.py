"""What people work on: wrong answers to repair and audited repairs to review, from a file or a run's folder.

A row to repair has the fields `id`, `question`, `image` and `draft`, and perhaps `reference`, `answer`, `options` and
`rule` (`embedded` for the embedded world's own grader). A row to review comes from `audits.jsonl`. Images are paths
relative to the file; they must lie inside its folder.
"""

import base64
from pathlib import Path
from typing import Any, Literal

from difference_feedback.annotate.followed import FollowedFile
from difference_feedback.annotate.item_check import check_item
from difference_feedback.errors import ConfigError, DataError, FieldError
from difference_feedback.runs.jsonl import RowProblem, read_input, read_jsonl, write_jsonl
from difference_feedback.runs.outputs import write_atomically

REPAIRS = ("items.jsonl", "oracle_repairs.jsonl")
AUDITS = "audits.jsonl"


class WorkFile:
    """The usable rows of one kind in the file `path`, and the problems of its other rows.

    `needed` is the field with the text that people work on. The file may change while people work: see `refresh`.

    Raises `DataError` when no row can be used.
    """

    def __init__(self, path: Path, needed: str) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.places: dict[str, int] = {}
        """Item id -> its place in `rows`."""
        self.problems: list[RowProblem] = []
        self._needed = needed
        self._file = FollowedFile(path)
        self.refresh()

    def refresh(self) -> Literal["same", "more", "other"]:
        """Read what is new in the file. Rows were added at its end ("more"), or there are other rows now ("other").

        Raises `DataError` when there is no usable row any more; the rows stay as they are, and the next call reads the
        file again.
        """
        changes = self._file.changes()
        if not changes:
            return "same"
        if changes.is_other or not self.rows:
            rows, places, problems = list[dict[str, Any]](), dict[str, int](), list[RowProblem]()
        else:
            rows, places, problems = self.rows, self.places, self.problems
        problems += changes.problems
        folder = self.path.parent.resolve()
        for line, values in changes.rows:
            try:
                check_item(values, folder, self._needed)
                name = str(values["id"])
                if name in places:
                    raise FieldError("id", f"an earlier line has the id {name!r} too; give each row its own id")
            except FieldError as error:
                problems.append(RowProblem(line, error.field, str(error)))
                continue
            waits = "auditor" in values and values["auditor"] is None  # for people, since there is no auditor
            if self._needed == "draft" or waits or values.get("verdict"):  # other audits without a verdict are outages
                places[name] = len(rows)
                rows.append(values | {"id": name})
        if not rows:
            self._file.forget()
            listed = "; ".join(str(problem) for problem in problems[:3]) or "the file has no rows"
            raise DataError(f"{self.path}: no row can be used: {listed}")
        if rows is self.rows:
            return "more"
        self.rows[:], self.places, self.problems = rows, places, problems  # others hold the list of rows
        return "other"


def find_work(source: Path) -> tuple[WorkFile | None, WorkFile | None]:
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


def load_work(path: Path, needed: str) -> WorkFile:
    """The usable rows of a file that somebody names; `needed` is the field with the text that people work on.

    Raises `DataError` when no row can be used.
    """
    read_input(path)  # refuses a file of another kind in its own words
    return WorkFile(path, needed)


def items_from_examples(examples: Path, output: Path) -> None:
    """Write the wrong answers of a demo's examples as items, with their images as files beside them.

    Raises `DataError` for a row that is no example.
    """
    rows, _ = read_jsonl(examples)
    items = []
    for line, values in rows:
        try:
            images = [base64.b64decode(url.split(",", 1)[1]) for url in values.get("images", [])]
            draft = "".join(token for token in values["wrong"]["tokens"] if token != "⏎").strip()
            question = values["question"]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{examples}, line {line}: no example of a demo ({error!r}); make it again") from None
        names = []
        for i, image in enumerate(images):
            names.append(f"images/example-{line}-{i}.png")
            path = output.parent / names[-1]
            write_atomically(path, image)
        items.append(
            {
                "id": str(values.get("id") or line),
                "question": question,
                "image": names,
                "draft": draft,
                "reference": values.get("reference"),
                "answer": values.get("answer"),
                "rule": "embedded",
            }
        )
    write_jsonl(output, items)
