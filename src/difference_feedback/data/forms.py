"""The forms of rows that are known: which columns tell a form, and where it has the question, the answer, the images.

A new form is one more entry of `FORMS`. The order matters: the first one that fits is taken.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from difference_feedback.data.answers import index_base, options_in, unwrapped
from difference_feedback.data.cells import Place, RowValues, has_column, is_missing, place_of, text_in, value_at
from difference_feedback.errors import ConfigError, FieldError
from difference_feedback.runs.sections import Data, DataField

VISION_ONLY = "Answer the question in the image."
"""What is asked where the picture holds the whole question. (MathVerse's Vision-Only rows)"""
SAMPLE = 300
"""Rows that are looked at to recognise a form."""
_IMAGES = (
    "decoded_image",
    "image",
    "images",
    "image_*",
    "image*",
    "image_path",
    "image_paths",
    "image_url",
    "image_urls",
    "img",
    "picture",
)
_DEFAULTS: Mapping[DataField, tuple[str, ...]] = {
    "id": ("id", "qid", "pid", "index", "question_id", "sample_index"),
    "question": ("question",),
    "answer": ("answer",),
    "options": ("options", "choices"),
    "image": _IMAGES,
    "video": ("video", "videos", "video_path"),
    "system": ("system",),
}


@dataclass(frozen=True)
class RowForm:
    """`columns` names for each field the columns that may hold it. The first that a row has is taken."""

    name: str
    about: str
    needs: tuple[str, ...]
    """A file has the form if its first rows have all of these columns."""
    columns: Mapping[DataField, tuple[str, ...]] = field(default_factory=dict)
    index_base: int | None = None
    """The number of the first option, where answers are indices."""
    options_in_question: bool = False
    picture_asks: bool = False
    """An empty question means that the image holds it."""
    option_columns: bool = False
    """The options are in columns `A`, `B`, `C`, ..."""

    def candidates(self, name: DataField) -> tuple[str, ...]:
        """The columns that may hold a field."""
        return self.columns.get(name, _DEFAULTS.get(name, ()))


FORMS = (
    RowForm(
        "mathvista",
        "AI4Math/MathVista",
        ("pid", "question", "choices", "question_type"),
    ),
    RowForm(
        "mathverse",
        "AI4Math/MathVerse; the picture asks where the question is empty",
        ("problem_version", "question", "question_type"),
        {"id": ("sample_index",)},
        options_in_question=True,
        picture_asks=True,
    ),
    RowForm(
        "mmmu",
        "MMMU/MMMU, lmms-lab/MMMU; options as a text of a list, images as options",
        ("question", "options", "image_1"),
        {"image": ("image_*",)},
    ),
    RowForm(
        "mmstar",
        "Lin-Chen/MMStar; the options stand in the question",
        ("index", "question", "answer", "l2_category"),
        options_in_question=True,
    ),
    RowForm(
        "scienceqa",
        "derek-thomas/ScienceQA, lmms-lab/ScienceQA; answers count from 0, the hint goes first",
        ("question", "choices", "answer", "hint"),
        {"context": ("hint",)},
        index_base=0,
    ),
    RowForm(
        "vlmevalkit",
        "VLMEvalKit's TSV files; images in base64, options in columns A, B, C, ...",
        ("index", "question", "A", "B", "answer"),
        {"context": ("hint",)},
        option_columns=True,
    ),
    RowForm(
        "mathvision",
        "MathLLMs/MathVision",
        ("question", "options", "answer", "level", "subject"),
    ),
    RowForm(
        "preference",
        "MMPR and other pairs; the accepted text is a reference, its final answer the answer",
        ("chosen", "rejected"),
        {
            "question": ("question", "query"),
            "messages": ("prompt", "messages", "chosen"),
            "reference": ("chosen",),
            "answer": ("answer", "solution"),
        },
    ),
    RowForm(
        "verl",
        "verl's parquet files and MMPR-Tiny",
        ("prompt", "reward_model.ground_truth"),
        {"question": (), "messages": ("prompt",), "answer": ("reward_model.ground_truth",)},
    ),
    RowForm(
        "ms-swift",
        "ms-swift; without a solution, the last turn is the answer",
        ("messages",),
        {"question": (), "messages": ("messages",), "answer": ("solution", "answer", "ground_truth")},
    ),
    RowForm(
        "conversations",
        "InternVL, LLaVA, VLM-R1: from and value; the last turn is the answer",
        ("conversations",),
        {
            "question": (),
            "messages": ("conversations",),
            "answer": ("solution", "answer", "ground_truth"),
        },
    ),
    RowForm(
        "geometry3k",
        "Geometry3K with choices; hiyouga/geometry3k is easyr1",
        ("problem_text", "choices", "answer"),
        {"question": ("problem_text",), "options": ("choices",), "image": (*_IMAGES, "diagram", "img_diagram")},
    ),
    RowForm(
        "easyr1",
        "EasyR1: hiyouga/geometry3k, PAPO's ViRL39K",
        ("problem", "answer"),
        {"question": ("problem",), "answer": ("answer",), "options": ("options", "choices")},
    ),
    RowForm(
        "clevr",
        "R1-V: leonardPKU/clevr_cogen_a_train, GEOQA_R1V",
        ("problem", "solution"),
        {"question": ("problem",), "answer": ("solution",), "options": ("options", "choices")},
    ),
    RowForm("virl39k", "TIGER-Lab/ViRL39K", ("qid", "question", "answer"), {"id": ("qid",)}),
    RowForm("mmk12", "FanqingM/MMK12", ("question", "answer", "subject", "image"), {"id": ("id",)}),
    RowForm(
        "plain",
        "question, answer and image, or columns that data.columns names",
        (),
        {
            "question": ("question", "problem", "prompt", "query"),
            "messages": ("messages", "prompt"),
            "answer": ("answer", "solution", "ground_truth", "label", "response"),
            "options": ("options", "choices"),
        },
    ),
)
_NAMED = {
    "ai2d": RowForm(
        "ai2d",
        "lmms-lab/ai2d; recognised if all answers are numbers and one is 0",
        ("question", "options", "answer", "image"),
        index_base=0,
    )
}
_NAMED |= {form.name: form for form in FORMS}
_NAMED["mmpr-tiny"] = _NAMED["verl"]


@dataclass(frozen=True)
class Layout:
    """A form with a user's own columns put over it."""

    form: RowForm
    columns: Mapping[DataField, tuple[str, ...]]
    """The user's own."""
    why: str
    """How the form was recognised, in words."""
    index_base: int | None = None
    fields: Mapping[DataField, tuple[str, ...]] = field(default_factory=dict)
    """The columns that hold each field in the first rows."""

    def of(self, name: DataField) -> tuple[str, ...]:
        """The columns that may hold a field."""
        return self.columns[name] if name in self.columns else self.form.candidates(name)

    def find(self, row: RowValues, name: DataField) -> tuple[Place, Any]:
        """The first place of the field that holds something, and what it holds; no place and None where none does."""
        for column in self.of(name):
            place = place_of(row, column)
            if not is_missing(value := value_at(row, place)):
                return place, value
        return (), None


def layout_of(data: Data, sample: Sequence[RowValues]) -> Layout:
    """The form of the rows, by `data.form` or by their columns, and the user's columns.

    Raises `ConfigError` for a column that no row of the sample has, and where there is no question or no answer.
    """
    form, why = _form_of(data, sample)
    columns = {name: (value,) if isinstance(value, str) else tuple(value) for name, value in data.columns.items()}
    if "messages" in columns:
        columns.setdefault("question", ())
    layout = Layout(form, columns, why)
    for name, wanted in data.columns.items():
        for column in [wanted] if isinstance(wanted, str) else wanted:
            if sample and not any(columns_like(row, column) for row in sample):
                raise ConfigError(f"data.columns.{name}: {data.path} has no column {column!r}; {_columns_in(sample)}.")
    _require(layout, data, sample, "question", ("question", "messages"))
    _require(layout, data, sample, "answer", ("answer", "reference", "messages"))
    base = form.index_base
    if base is None and form.name in _MAY_COUNT:
        base = index_base(_answers(layout, sample))
        if base == 0 and form.name == "plain":
            form, why = _NAMED["ai2d"], "all answers are numbers of options, and one is 0"
    return replace(layout, form=form, why=why, index_base=base, fields=_fields(layout, sample))


def columns_like(row: RowValues, column: str) -> list[str]:
    """The row's columns that a name or a pattern such as `image_*` means, by their number."""
    if "*" not in column:
        return [column] if has_column(row, column) else []
    before, _, after = column.partition("*")
    pattern = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    numbered = [(int(match[1]), name) for name in row if (match := pattern.fullmatch(name))]
    return [name for _, name in sorted(numbered)]


def _form_of(data: Data, sample: Sequence[RowValues]) -> tuple[RowForm, str]:
    if data.form == "auto":
        form = next(form for form in FORMS if all(_holds(sample, column) for column in form.needs))
        return form, f"it has {', '.join(form.needs)}" if form.needs else "no other form fits"
    form = _NAMED[data.form]
    named = {column for value in data.columns.values() for column in ([value] if isinstance(value, str) else value)}
    lacking = [c for c in form.needs if not _holds(sample, c) and not (named and c in _MAPPABLE)] if sample else []
    if lacking:
        raise ConfigError(
            f"data.form: {data.form} needs the column {lacking[0]!r}; {_columns_in(sample)}. Leave data.form out, or "
            "name the columns in data.columns."
        )
    return form, "data.form names it"


_MAY_COUNT = ("plain", "easyr1", "clevr")
"""Forms whose answers may be indices; the others have letters or texts."""
_MAPPABLE = ("question", "answer", "options", "image", "problem", "solution")


def _holds(sample: Sequence[RowValues], column: str) -> bool:
    return any(has_column(row, column) for row in sample)


def _fields(layout: Layout, sample: Sequence[RowValues]) -> dict[DataField, tuple[str, ...]]:
    fields: dict[DataField, tuple[str, ...]] = {}
    for name in get_args(DataField):
        columns: dict[str, None] = {}
        for row in sample:
            groups = (columns_like(row, column) for column in layout.of(name))
            held = ([c for c in group if not is_missing(value_at(row, place_of(row, c)))] for group in groups)
            columns |= dict.fromkeys(next(filter(None, held), []))
        if columns and not (name == "messages" and "question" in fields):
            fields[name] = tuple(columns)
    return fields


def _require(layout: Layout, data: Data, sample: Sequence[RowValues], name: str, fields: tuple[DataField, ...]) -> None:
    wanted = [column for of in fields for column in layout.of(of) if column]
    if sample and not any(_holds(sample, column) for column in wanted):
        raise ConfigError(
            f"data.columns.{name}: {data.path} has no column {wanted[0]!r}; {_columns_in(sample)}: name the column in "
            f"data.columns.{name}."
        )


def _columns_in(sample: Sequence[RowValues]) -> str:
    return f"it has {', '.join(dict.fromkeys(name for row in sample for name in row))}"


def _answers(layout: Layout, sample: Sequence[RowValues]) -> Iterator[tuple[Any, list[str]]]:
    """Answers and options of the rows that have both."""
    for row in sample:
        try:
            options = options_in(layout.find(row, "options")[1])
            answer = layout.find(row, "answer")[1]
            if options and not is_missing(answer):
                yield unwrapped(text_in(answer, "answer")), options
        except FieldError:
            continue
