"""Questions on images from outside, in the columns that the trainers read: docs/your_data.md says what is read.

`data.layout` recognises the forms of rows. A row that cannot be used is left out and listed with its line, its field
and the remedy. The other rows are used. Images are measured by their headers, and opened when they are needed.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from huggingface_hub.constants import HF_HUB_CACHE
from PIL import Image
from rich.console import Console

from difference_feedback.data.cells import SourceRow
from difference_feedback.data.layout import SAMPLE, Layout, layout_of, name_images
from difference_feedback.data.marks import place
from difference_feedback.data.once import once_a_machine
from difference_feedback.data.pictures import LazyImages, Opener, Picture, Size
from difference_feedback.data.question_rows import FEATURES, for_trainers, prompt_of
from difference_feedback.data.rows import MediumCell, ReadRow, kept_columns, read_row
from difference_feedback.data.sources import RowSource, open_source
from difference_feedback.data.video import spread
from difference_feedback.errors import ConfigError, DataError, FieldError
from difference_feedback.runs.first_rank import is_first_rank
from difference_feedback.runs.json_values import HALF_PAIR, field_with_half_pair
from difference_feedback.runs.jsonl import RowProblem, print_problems
from difference_feedback.runs.prompts import PromptForm
from difference_feedback.runs.sections import Data
from difference_feedback.runs.terminal import Terminal

_CHUNK = 5000  # rows that are kept as Python objects before they become a table


@dataclass(frozen=True)
class VisualQuestion:
    """A question on images. `question` is the whole text; `<image>` marks the place of each of `images`.

    The frames of a video are images, too.
    """

    id: str
    question: str
    images: Sequence[Image.Image]
    answer: str
    options: tuple[str, ...] = ()
    task: str = ""
    system: str | None = None
    reference: str | None = None
    """An accepted response, where the row has one."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """The row's own columns, images excepted: what a benchmark's own rule reads."""

    @cached_property
    def prompt(self) -> list[dict[str, Any]]:
        """The chat conversation for the policy."""
        return prompt_of(self.question, self.system)


@dataclass(frozen=True)
class LoadedData:
    """`dataset` has the usable rows, `problems` the rows left out, and `notes` counts the changes to images."""

    dataset: datasets.Dataset
    problems: list[RowProblem]
    notes: Counter[str]
    layout: Layout
    opener: Opener

    @property
    def lines(self) -> list[int]:
        """Where each row of `dataset` stands in the file."""
        return list(self.dataset["line"][:])

    @property
    def sizes(self) -> list[list[Size]]:
        """Height and width of each row's images, in pixels."""
        pictures = self.dataset["images"][:]
        return [[(picture["height"], picture["width"]) for picture in of_row] for of_row in pictures]

    @property
    def prompts(self) -> list[list[dict[str, Any]]]:
        """The chat conversation of each row."""
        texts = zip(self.dataset["question"][:], self.dataset["system"][:], strict=True)
        return [prompt_of(question, system) for question, system in texts]

    @property
    def warnings(self) -> list[str]:
        """What is odd about the whole file, in words."""
        return self.layout.warnings if self.layout.media_like and not any(self.sizes) else []

    def select(self, rows: Sequence[int]) -> "LoadedData":
        """These rows alone, by their place."""
        return self if len(rows) == len(self.dataset) else replace(self, dataset=self.dataset.select(rows))

    def questions(self) -> list[VisualQuestion]:
        """The rows as questions for an evaluation. Their images are opened when they are taken."""
        return [
            VisualQuestion(
                row["id"],
                row["question"],
                LazyImages(row["images"], self.opener),
                row["answer"],
                tuple(row["options"]),
                system=row["system"],
                reference=row["reference"],
                columns=json.loads(row["columns"]),
            )
            for row in self.dataset
        ]

    def for_training(self) -> datasets.Dataset:
        """The columns that TRL's trainers and the reward functions read: prompt, images, id, answer, options, and the
        file's own. Images are opened as rows are taken."""
        return for_trainers(self.dataset, self.opener)


def load_data(data: Data, console: Console | None = None, form: PromptForm | None = None) -> LoadedData:
    """Load what a recipe's `data` names. Problems and changes are printed to `console`, by default standard error.

    `form` puts the recipe's own texts around every question.

    Raises `DataError` when no row is usable, and `ConfigError` when the data set or a column does not exist.
    """
    loaded = read_data(data, form)
    quiet = not is_first_rank()
    _print_problems(data, loaded, console or Terminal(stderr=True, emoji=False, soft_wrap=True, quiet=quiet))
    if not len(loaded.dataset):
        listed = "; ".join(str(problem).rstrip(".") for problem in loaded.problems[:3]) or "It has no rows"
        raise DataError(f"{data.path}: none of {len(loaded.problems)} rows can be used. {listed}.")
    return loaded


def read_data(data: Data, form: PromptForm | None = None) -> LoadedData:
    """`load_data` without a word, and without an error where no row is usable. Of several ranks one checks the rows."""
    source = open_source(data)
    rows = (_lean(row.values) for row in source)
    layout = layout_of(data, list(islice(rows, SAMPLE)), rows)
    root = Path(data.image_root).expanduser() if data.image_root is not None else source.folder
    if data.image_root is not None and not root.is_dir():
        raise ConfigError(f"data.image_root: {data.image_root} is no folder: give the one that the paths start from.")
    remedy = "copy it there, or set data.image_root to a folder that holds it, as data.image_root={above}"
    opener = Opener(source, data.path, root, data.min_side, data.max_pixels, (source.folder, *_caches(data)), remedy)
    reader = _Reader(data, source, layout, opener, form)
    probe = (form or PromptForm()).question("question", data.instruction)
    key = [data.model_dump(), form and form.system, probe, _changed(Path(data.path).expanduser())]
    folder = once_a_machine(key, lambda folder: _save(reader.read(), folder))
    return reader.read() if folder is None else _loaded(folder, source, layout, opener)


def _caches(data: Data) -> tuple[Path, ...]:
    """Where `datasets` keeps the files of a data set from the hub, which its rows name."""
    if Path(data.path).expanduser().exists():
        return ()
    return Path(datasets.config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE)


def _changed(path: Path) -> list[float]:
    """When a file or a folder was changed."""
    return [path.stat().st_mtime, path.stat().st_size] if path.exists() else []


def _save(loaded: LoadedData, folder: Path) -> None:
    loaded.dataset.save_to_disk(folder / "rows")
    problems = [(problem.line, problem.field, problem.message) for problem in loaded.problems]
    (folder / "account.json").write_text(json.dumps({"problems": problems, "notes": loaded.notes}))


def _loaded(folder: Path, source: RowSource, layout: Layout, opener: Opener) -> LoadedData:
    account = json.loads((folder / "account.json").read_text())
    dataset = datasets.load_from_disk(str(folder / "rows"), keep_in_memory=True)
    if any(not picture["path"] for row in dataset["images"] for picture in row):
        for _ in source:  # it learns where its rows are
            pass
    problems = [RowProblem(*problem) for problem in account["problems"]]
    return LoadedData(dataset, problems, Counter(account["notes"]), layout, opener)


class _Reader:
    """Reads rows, and keeps account of what is wrong with them."""

    def __init__(self, data: Data, source: RowSource, layout: Layout, opener: Opener, form: PromptForm | None) -> None:
        self.data, self.source, self.layout, self.opener = data, source, layout, opener
        self.form = form or PromptForm()
        self.problems: list[RowProblem] = []
        self.notes: Counter[str] = Counter()
        self.images_of_ids: dict[str, list[tuple[Picture, list[str]]]] = {}
        self.lines_of_ids: dict[str, int] = {}
        self.questions_of_ids: dict[str, int] = {}
        self.repeated = 0
        """Rows that repeat an id with another question."""

    def read(self) -> LoadedData:
        """The usable rows as a data set, as many as `data.limit` allows."""
        rows = islice(self._usable(), self.data.limit)
        tables: list[datasets.Dataset] = []
        while (good := list(islice(rows, _CHUNK))) or not tables:
            tables.append(
                datasets.Dataset.from_dict({name: [row[name] for row in good] for name in FEATURES}, FEATURES)
            )
        if not self.layout.ids_repeat and name_images(self.repeated, self.repeated + len(self.lines_of_ids)):
            layout = replace(self.layout, ids_repeat=True)  # which the first rows did not show
            return _Reader(self.data, self.source, layout, self.opener, self.form).read()
        problems = sorted([*self.source.problems, *self.problems], key=lambda problem: problem.line)
        return LoadedData(datasets.concatenate_datasets(tables), problems, self.notes, self.layout, self.opener)

    def _usable(self) -> Iterator[dict[str, Any]]:
        """The usable rows in the columns of `FEATURES`."""
        for row in self.source:
            try:
                yield self._row(row)
            except FieldError as error:
                self.problems.append(RowProblem(row.line, error.field, str(error)))

    def _row(self, row: SourceRow) -> dict[str, Any]:
        """The row in the columns of `FEATURES`. Raises `FieldError`."""
        read = read_row(row.values, self.layout)
        images, counts = self._images(read, row), Counter[str]()
        videos = [self._video(cells, row) for cells in read.videos]
        text, media = place(read.question, read.numbers, len(videos), read.drops_unmarked)
        pictures: list[Picture] = []
        parts = text.split("<video>")
        text = parts[0]
        clips = iter([medium.nth for medium in media if medium.kind == "video"])
        for part in parts[1:]:
            text += "<image>" * len(videos[next(clips)]) + part
        for medium in media:
            of_medium = videos[medium.nth] if medium.kind == "video" else [images[medium.nth][0]]
            pictures += of_medium
            if medium.kind == "image":
                counts.update(images[medium.nth][1])
        name = self._name(read, row.line)
        instruction = "" if "\\boxed" in text and "\\boxed" in self.data.instruction else self.data.instruction
        values = {
            "id": name,
            "question": self.form.question(text, instruction),
            "images": pictures,
            "answer": read.answer,
            "options": read.options,
            "reference": read.reference,
            "system": self.form.system if self.form.system is not None else read.system,
            "columns": json.dumps(kept_columns(row.values, self.layout), ensure_ascii=True),
            "line": row.line,
        }
        if broken := field_with_half_pair({"options": read.options} | values):
            raise FieldError(broken, f"{HALF_PAIR}.")
        self.lines_of_ids[name] = row.line
        self.notes.update(counts)
        return values

    def _name(self, read: ReadRow, line: int) -> str:
        """The row's id, which is unique; without one, its line."""
        name = read.id if read.id is not None else f"line-{line}" if "id" in self.layout.fields else str(line)
        question = hash(read.question)
        self.repeated += self.questions_of_ids.setdefault(name, question) != question
        if name in self.lines_of_ids and self.layout.ids_repeat:
            name = next(other for i in count(2) if (other := f"{name}-{i}") not in self.lines_of_ids)
        if name in self.lines_of_ids:
            shown = name if len(name) <= 80 else f"{name[:77]}..."
            raise FieldError(
                "id", f"{shown!r} is the id of line {self.lines_of_ids[name]}, too: give each row an id of its own."
            )
        return name

    def _images(self, read: ReadRow, row: SourceRow) -> list[tuple[Picture, list[str]]]:
        if self.layout.form.images_by_id and len(read.images) == 1 and str(read.images[0].value) in self.images_of_ids:
            return self.images_of_ids[str(read.images[0].value)]
        pictures = []
        for cell in read.images:
            picture, measured = self.opener.find(cell.value, cell.place, row.number, row.line)
            pictures.append((picture, [re.sub(r"( from| of) \d+.*", "", note) for note in measured.notes]))
        if self.layout.form.images_by_id and read.id is not None:
            self.images_of_ids[read.id] = pictures
        return pictures

    def _video(self, cells: list[MediumCell], row: SourceRow) -> list[Picture]:
        if len(cells) == 1:
            cell = cells[0]
            return self.opener.find_frames(cell.value, cell.place, row.number, row.line, self.data.video_frames)
        if not cells:
            raise FieldError("video", "the list of its frames is empty: give their files.")
        chosen = [cells[i] for i in spread(len(cells), self.data.video_frames)]
        return [self.opener.find(cell.value, cell.place, row.number, row.line)[0] for cell in chosen]


def _lean(value: Any) -> Any:
    """A value without images: without bytes, and without the rest of long texts."""
    if isinstance(value, str):
        return value[:20_000]
    if isinstance(value, pa.Buffer):
        return b""
    if isinstance(value, dict):
        return {key: _lean(item) for key, item in value.items()}
    return [_lean(item) for item in value] if isinstance(value, list) else value


def _print_problems(data: Data, loaded: LoadedData, console: Console) -> None:
    good, bad = len(loaded.dataset), len(loaded.problems)
    for warning in loaded.warnings:
        console.print(f"{data.path}: {warning}.", style="yellow", markup=False, highlight=False)
    for note, number in loaded.notes.items():
        console.print(f"{data.path}: {number} images were changed: {note}.", markup=False, highlight=False)
    if bad:
        text = f"{data.path}: {good} of {good + bad} rows are used, {bad} left out:"
        console.print(text, markup=False, highlight=False)
        print_problems(loaded.problems, console, shown=30)  # all are in `LoadedData.problems`
