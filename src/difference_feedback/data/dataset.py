"""Real questions on images, from a JSONL file or a `datasets` data set, in the columns that the trainers read.

A JSONL row has `question`, `image` or `images` (a path or a list of paths, relative to the file) and `answer`. It may
have `id` and `options`, the texts of a multiple-choice question; `answer` is then a letter, A for the first. Marks in
the question, `<image>` or `<image1>`, `<image2>`, ..., say where the images go; without marks the images go first.

A row that cannot be used is left out and listed with its line, its field and the remedy. The other rows are used.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
from PIL import Image
from rich.console import Console

from difference_feedback.data.conversations import marked_conversation, with_system
from difference_feedback.data.image_files import OpenedImage, open_image, png_bytes
from difference_feedback.errors import ConfigError, DataError, FieldError
from difference_feedback.runs.jsonl import RowProblem, print_problems, read_jsonl
from difference_feedback.runs.prompts import PromptForm
from difference_feedback.runs.sections import Data

PLACEHOLDER = re.compile(r"<image[ _]?(\d*)>", re.IGNORECASE)
FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "question": datasets.Value("string"),
        "images": datasets.List(datasets.Image()),
        "answer": datasets.Value("string"),
        "options": datasets.List(datasets.Value("string")),
    }
)


@dataclass(frozen=True)
class VisualQuestion:
    """A question on images. `question` is the whole text; `<image>` marks the place of each of `images`."""

    id: str
    question: str
    images: tuple[Image.Image, ...]
    answer: str
    options: tuple[str, ...] = ()
    task: str = ""
    system: str | None = None

    @cached_property
    def prompt(self) -> list[dict[str, Any]]:
        """The chat conversation for the policy."""
        return with_system(marked_conversation(self.question), self.system)


@dataclass(frozen=True)
class LoadedData:
    """`dataset` has the usable rows, `problems` the rows left out, and `notes` counts the changes to images."""

    dataset: datasets.Dataset
    problems: list[RowProblem]
    notes: Counter[str]
    lines: list[int]
    """Where each row of `dataset` stands in the file."""
    sizes: list[list[tuple[int, int]]]
    """Height and width of each row's images, in pixels."""
    system: str | None = None
    """The system message of the prompts."""

    @property
    def prompts(self) -> list[list[dict[str, Any]]]:
        """The chat conversation of each row."""
        return [with_system(marked_conversation(question), self.system) for question in self.dataset["question"]]

    def select(self, rows: Sequence[int]) -> "LoadedData":
        """These rows alone, by their place."""
        if len(rows) == len(self.lines):
            return self
        lines, sizes = [self.lines[i] for i in rows], [self.sizes[i] for i in rows]
        return replace(self, dataset=self.dataset.select(rows), lines=lines, sizes=sizes)

    def questions(self) -> list[VisualQuestion]:
        """The rows as questions for an evaluation."""
        return [
            VisualQuestion(
                row["id"],
                row["question"],
                tuple(row["images"]),
                row["answer"],
                tuple(row["options"]),
                system=self.system,
            )
            for row in self.dataset
        ]

    def for_training(self) -> datasets.Dataset:
        """The columns that TRL's trainers and the reward functions read: prompt, images, id, answer, options."""
        return self.dataset.remove_columns("question").add_column("prompt", self.prompts)


def load_data(data: Data, console: Console | None = None, form: PromptForm | None = None) -> LoadedData:
    """Load what a recipe's `data` names. Problems and changes are printed to `console`, by default standard error.

    `form` puts the recipe's own texts around every question.

    Raises `DataError` when no row is usable, and `ConfigError` when the data set or a column does not exist.
    """
    path = Path(data.path).expanduser()
    rows: Iterable[tuple[int, Mapping[str, Any]]]
    problems: list[RowProblem] = []
    if path.suffix in (".jsonl", ".json"):
        rows, problems = read_jsonl(path)
    else:
        rows = _dataset_rows(data)
    form = form or PromptForm()
    good: list[dict[str, Any]] = []
    lines: list[int] = []
    sizes: list[list[tuple[int, int]]] = []
    notes: Counter[str] = Counter()
    for line, row in rows:
        try:
            values, of_images = _checked_row(row, data, str(line), path.parent, notes, form)
            good.append(values)
            lines.append(line)
            sizes.append(of_images)
        except FieldError as error:
            problems.append(RowProblem(line, error.field, str(error)))
        if data.limit is not None and len(good) == data.limit:
            break
    read = len(good) + len(problems)
    problems.sort(key=lambda problem: problem.line)
    _print_problems(
        data, len(good), read, problems, notes, console or Console(stderr=True, emoji=False, soft_wrap=True)
    )
    if not good:
        listed = "; ".join(str(problem).rstrip(".") for problem in problems[:3]) or "It has no rows"
        raise DataError(f"{data.path}: none of {read} rows can be used. {listed}.")
    dataset = datasets.Dataset.from_list(good, features=FEATURES)
    return LoadedData(dataset, problems, notes, lines, sizes, form.system)


def _dataset_rows(data: Data) -> Iterator[tuple[int, Mapping[str, Any]]]:
    path = Path(data.path).expanduser()
    try:
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(str(path))
            if isinstance(loaded, datasets.DatasetDict):
                loaded = loaded[data.split]
        else:
            loaded = datasets.load_dataset(data.path, data.name, split=data.split)
    except (OSError, ValueError, KeyError, RuntimeError, ConnectionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"data.path {data.path}: cannot be loaded ({reason}): give a JSONL file, a saved data set, or a hub name."
        ) from error
    missing = set(data.columns.values()) - set(loaded.column_names)
    if missing:
        raise ConfigError(
            f"data.columns: {data.path} has no column {sorted(missing)[0]!r}; it has {', '.join(loaded.column_names)}."
        )
    return ((number, row) for number, row in enumerate(loaded, 1))


def _checked_row(
    row: Mapping[str, Any], data: Data, line: str, folder: Path, notes: Counter[str], form: PromptForm
) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """The row in the columns of `FEATURES`, and the height and width of its images. Raises `FieldError`."""
    if not isinstance(row, Mapping):
        raise FieldError("row", f"the type is {type(row).__name__}: give an object with fields.")

    def field(name: str) -> Any:
        return row.get(data.columns.get(name, name))  # type: ignore[call-overload]

    question, answer, options = field("question"), field("answer"), field("options") or []
    if not isinstance(question, str) or not question.strip():
        raise FieldError("question", "missing or not a text: give the question.")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float) or not str(answer).strip():
        raise FieldError("answer", "missing or not a text: give the answer by which responses are graded.")
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise FieldError("options", "not a list of texts: leave the field out if the question has no options.")
    images = field("image")
    if images is None and "image" not in data.columns:
        images = row.get("images")
    images = images if isinstance(images, list) else [images]
    if not images or images[0] is None:
        raise FieldError("image", "missing: give the path of the image, relative to this file.")
    text, order = place_images(question.strip(), len(images))
    stored, sizes = [], []
    for image in images:
        try:
            opened = open_image(_source(image, folder), min_side=data.min_side, max_pixels=data.max_pixels)
        except DataError as error:
            raise FieldError("image", str(error)) from None
        notes.update(re.sub(r"( from| of) \d+.*", "", note) for note in opened.notes)
        stored.append(_stored(image, opened, folder))
        sizes.append((opened.image.height, opened.image.width))
    id = row.get(data.columns.get("id", "id"))
    values = {
        "id": line if id is None or id == "" else str(id),
        "question": form.question("\n".join([text, *_choices(options)]), data.instruction),
        "images": [stored[i] for i in order],
        "answer": str(answer).strip(),
        "options": options,
    }
    return values, [sizes[i] for i in order]


def place_images(question: str, count: int) -> tuple[str, list[int]]:
    """The question with plain `<image>` marks, and the index of the image that goes to each mark.

    A row with one image may have several marks `<image1>`, `<image2>`, ..., because the image shows several pictures
    (as in MathVision). The image then goes to the first mark, and the other marks become text such as `[picture 2]`.
    """
    marks = [int(number) - 1 if number else i for i, number in enumerate(PLACEHOLDER.findall(question))]
    if not marks:
        return "<image>" * count + question, list(range(count))
    if count == 1:
        first, *others = PLACEHOLDER.split(question)[::2]
        text = "".join(f"[picture {mark + 1}]{part}" for mark, part in zip(marks[1:], others[1:], strict=True))
        return f"{first}<image>{others[0]}{text}", [0]
    if set(marks) != set(range(count)):
        marked = sorted({mark + 1 for mark in marks})
        message = f"it marks the images {marked}, but the row has {count} images: mark each image once."
        raise FieldError("question", message)
    return PLACEHOLDER.sub("<image>", question), marks


def _choices(options: list[str]) -> list[str]:
    letters = [chr(65 + i) for i in range(len(options))]
    if options == letters:
        return [f"Choose one of {', '.join(letters)}."] if options else []
    return [f"{letter}. {option}" for letter, option in zip(letters, options, strict=True)]


def _source(image: Any, folder: Path) -> Path | bytes | Image.Image:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, Mapping) and (image.get("bytes") or image.get("path")):
        return bytes(image["bytes"]) if image.get("bytes") else folder / image["path"]
    if isinstance(image, str) and image.strip():
        return folder / image
    raise FieldError("image", f"the type is {type(image).__name__}: give the path of a file.")


def _stored(image: Any, opened: OpenedImage, folder: Path) -> dict[str, Any]:
    """The image for the data set. A file that needs no change is stored as its path and read when it is needed."""
    if isinstance(image, str) and not opened.notes and opened.image.mode == "RGB":
        return {"path": str((folder / image).resolve()), "bytes": None}
    return {"path": None, "bytes": png_bytes(opened.image)}


def _print_problems(
    data: Data, good: int, read: int, problems: list[RowProblem], notes: Counter[str], console: Console
) -> None:
    for note, count in notes.items():
        console.print(f"{data.path}: {count} images were changed: {note}.", markup=False, highlight=False)
    if not problems:
        return
    console.print(
        f"{data.path}: {good} of {read} rows are used, {len(problems)} left out:", markup=False, highlight=False
    )
    print_problems(problems, console, shown=30)  # all are in `LoadedData.problems`
