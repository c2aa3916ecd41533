"""Which form the rows of a file have, which of its columns hold which field, and what its answers count from."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, get_args

from difference_feedback.data.answers import IndexCount, Options, options_in, options_of_columns
from difference_feedback.data.cells import (
    Place,
    RowValues,
    has_column,
    is_filled,
    is_missing,
    place_of,
    text_in,
    value_at,
)
from difference_feedback.data.columns import columns_like, key_of, series_of_options
from difference_feedback.data.final_answers import unwrapped
from difference_feedback.data.forms import FILES, FORMS, NAMED_FORMS, RowForm
from difference_feedback.data.pictures import PICTURES
from difference_feedback.errors import ConfigError, FieldError
from difference_feedback.runs.sections import Data, DataField

SAMPLE = 300
"""Rows that are looked at to recognise a form."""
_FILM = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".flv", ".mpg", ".mpeg", ".m4v", ".ts", ".wmv", ".3gp")
_MAJORITY = 2 / 3
_COUNTED = 20_000  # rows that are read to learn from where answers count, if the sample does not tell
_MEDIUM = re.compile(r"(?:^|_)(?:image|img|picture|photo|video|film|clip|frame)s?(?:_|\d|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """A form with a user's own columns put over it."""

    form: RowForm
    """Its columns have the file's own spelling."""
    columns: Mapping[DataField, tuple[str, ...]]
    """The user's own."""
    why: str
    """How the form was recognised, in words."""
    index_base: int | None = None
    """The number of the first option, where answers are indices."""
    is_sure_of_indices: bool = False
    """The user says that answers are indices."""
    option_columns: tuple[str, ...] = ()
    """Columns of one option each: `A`, `B`, `C`, ..."""
    first_option: int | None = None
    """The number of the first of `option_columns`, if they have numbers."""
    fields: Mapping[DataField, tuple[str, ...]] = field(default_factory=dict)
    """The columns that hold each field in the first rows."""
    unused: tuple[str, ...] = ()
    """Columns of the first rows that no prompt needs."""
    media_like: tuple[str, ...] = ()
    """Those of `unused` that seem to hold images or videos."""
    ids_repeat: bool = False
    """Many rows share an id, as where it names the image."""

    @property
    def warnings(self) -> list[str]:
        """What is odd about a file none of whose rows has an image."""
        columns = ", ".join(self.media_like)
        return [
            f"no row has an image, but {columns} may hold one: name it in data.columns.image, or data.columns.video"
        ]

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

    def options(self, row: RowValues) -> Options:
        """The row's options, none where it has none. Raises `FieldError`."""
        if len(self.columns.get("options", ())) < 2:
            _, value = self.find(row, "options")
            if value is not None and value not in ([], {}, "[]", "{}"):
                return options_in(value)
        columns, first = self.option_columns, self.first_option
        if not columns:  # of a file whose first rows have no options
            columns, first = series_of_options([row])
        return Options(options_of_columns([row.get(column) for column in columns]).texts, first)

    def media_columns(self, row: RowValues, name: DataField) -> Iterator[list[str]]:
        """The groups of columns that hold the row's images or videos, in the order in which they are tried.

        A number is no image, but may count images or name one: such a column comes last, or not at all.
        """
        own, numbers = self.columns.get(name), list[list[str]]()
        for group in [own] if own else [(column,) for column in self.of(name)]:
            names = [column for wanted in group for column in columns_like(row, wanted)]
            values = [value_at(row, place_of(row, column)) for column in names]
            if own and names:
                yield names
            elif key_of(group[0]) in _FILE_KEYS:
                yield [c for c, value in zip(names, values, strict=True) if self._is_file_of(name, c, value)]
            elif any(isinstance(value, int | float) and not is_missing(value) for value in values):
                numbers += [names] if key_of(group[0]) not in _COUNTS else []
            elif names:
                yield names
        yield from numbers

    def _is_file_of(self, name: DataField, column: str, value: Any) -> bool:
        """Whether a column that may hold any file holds an image, or a video: by the name's end, or as others do."""
        text = value.lower().strip() if isinstance(value, str) else ""
        if name == "video":
            return text.endswith(_FILM)
        return text.endswith(PICTURES) or (column in self.fields.get("image", ()) and not text.endswith(_FILM))


def layout_of(data: Data, sample: Sequence[RowValues], rest: Iterable[RowValues] = ()) -> Layout:
    """The form of the rows, by `data.form` or by their columns, and the user's columns.

    `rest` are the rows after the sample. They are read only where the answers are indices, and the sample does not tell
    from where they count.

    Raises `ConfigError` for a column that no row of the sample has, and where there is no question or no answer.
    """
    form, why = _form_of(data, sample)
    columns = {name: (value,) if isinstance(value, str) else tuple(value) for name, value in data.columns.items()}
    if "messages" in columns:
        columns.setdefault("question", ())
    for name, wanted in data.columns.items():
        for column in [wanted] if isinstance(wanted, str) else wanted:
            if sample and not any(columns_like(row, column) for row in sample):
                raise ConfigError(f"data.columns.{name}: {data.path} has no column {column!r}; {_columns_in(sample)}.")
    layout = Layout(form, columns, why)
    _require(layout, data, sample, "question", ("question", "messages"))
    _require(layout, data, sample, "answer", ("answer", "reference", "messages"))
    option_columns, first_option = columns.get("options", ()), None
    if len(option_columns) < 2:
        option_columns, first_option = series_of_options(sample)
    if _holds_votes(layout, sample):
        form = replace(form, lists_spellings=True)
    layout = replace(layout, form=form, option_columns=option_columns, first_option=first_option)
    is_sure = data.answers_from is not None or (data.form != "auto" and form.index_base is not None)
    base = data.answers_from if data.answers_from is not None else form.index_base
    if not is_sure:
        base = _index_base(layout, sample, rest)
        if base == 0 and form.name == "plain":
            about = NAMED_FORMS["ai2d"]
            form, why = replace(form, name=about.name, about=about.about), "most answers are numbers of options, from 0"
    layout = replace(layout, form=form, why=why, index_base=base, is_sure_of_indices=is_sure)
    fields = _fields(layout, sample)
    used = {place_of(row, column)[0] for row in sample[:20] for names in fields.values() for column in names}
    unused = [name for name in dict.fromkeys(name for row in sample for name in row) if name not in used]
    media_like = [name for name in unused if any(_looks_like_medium(name, row.get(name)) for row in sample)]
    has_media = "image" in fields or "video" in fields
    return replace(
        layout,
        fields=fields,
        unused=tuple(unused),
        media_like=() if has_media else tuple(media_like),
        ids_repeat=_ids_repeat(layout, sample),
    )


_FILE_KEYS = {key_of(name) for name in (*FILES, "filename", "filepath")}
_COUNTS = {"frames", "images", "videos", "clip"}  # where numbers count something, or score it


def _form_of(data: Data, sample: Sequence[RowValues]) -> tuple[RowForm, str]:
    names = {key_of(name): name for row in reversed(sample) for name in reversed(list(row))}
    exact = {name for row in sample for name in row}

    def spelled(column: str) -> str:
        """The column as the file spells it."""
        head, dot, below = column.partition(".")
        return column if column in exact or head in exact else names.get(key_of(head), head) + dot + below

    def fits(form: RowForm) -> bool:
        for column in form.needs:
            rows = [row for row in sample if has_column(row, spelled(column))]
            if column not in form.may_be_empty:
                rows = [row for row in rows if is_filled(value_at(row, place_of(row, spelled(column))))]
            if not rows or len(rows) < _MAJORITY * len(sample):
                return False
        return not any(key_of(column) in names for column in form.lacks) and not (form.lacks and has_sentences(form))

    def has_sentences(form: RowForm) -> bool:
        """Whether another column may be the question, under a name of its own."""
        needed = set(map(spelled, form.needs))
        return any(
            isinstance(value, str) and len(value.split()) > 2
            for row in sample
            for name, value in row.items()
            if name not in needed
        )

    if data.form == "auto":
        form = next(form for form in FORMS if not form.needs or fits(form))
        why = f"it has {', '.join(map(spelled, form.needs))}" if form.needs else "no other form fits"
    else:
        form, why = NAMED_FORMS[data.form], "data.form names it"
        named = bool(data.columns)
        needs = [column for column in form.needs if sample and not _holds(sample, spelled(column))]
        if lacking := [column for column in needs if not (named and column in _MAPPABLE)]:
            raise ConfigError(
                f"data.form: {data.form} needs the column {lacking[0]!r}; {_columns_in(sample)}. Leave data.form out, "
                "or name the columns in data.columns."
            )
    columns = {name: tuple(dict.fromkeys(map(spelled, form.candidates(name)))) for name in get_args(DataField)}
    return replace(form, columns=columns), why


_MAPPABLE = ("question", "answer", "options", "image", "problem", "solution")


def _holds(sample: Sequence[RowValues], column: str) -> bool:
    return any(has_column(row, column) for row in sample)


def _index_base(layout: Layout, sample: Sequence[RowValues], rest: Iterable[RowValues]) -> int | None:
    """The number of the first option by what the answers say, and by the form where they do not contradict it."""
    count = IndexCount()
    for row in sample:
        _count(count, layout, row)
    if layout.form.index_base is not None and count.base is None:
        return layout.form.index_base if count.has_indices or not count.texts else None
    if count.has_indices:
        for row in islice(rest, _COUNTED):
            if count.base is not None:
                break
            _count(count, layout, row)
    return count.base


def _count(count: IndexCount, layout: Layout, row: RowValues) -> None:
    try:
        options, first = layout.options(row)
        answer = layout.find(row, "answer")[1]
        if options and first is None and not is_missing(answer):
            count.add(unwrapped(text_in(answer, "answer")), options)
    except FieldError:
        return


def _fields(layout: Layout, sample: Sequence[RowValues]) -> dict[DataField, tuple[str, ...]]:
    fields: dict[DataField, tuple[str, ...]] = {}
    for name in get_args(DataField):
        columns: dict[str, None] = {}
        for row in sample:
            is_medium = name in ("image", "video")
            groups = layout.media_columns(row, name) if is_medium else ([c] for c in layout.of(name))
            held = ([c for c in group if is_filled(value_at(row, place_of(row, c)))] for group in groups)
            columns |= dict.fromkeys(next(filter(None, held), []))
        if name == "options" and (not columns or len(layout.columns.get(name, ())) > 1):
            columns = dict.fromkeys(layout.option_columns)
        if columns and not (name == "messages" and "question" in fields):
            fields[name] = tuple(columns)
    return fields


def _require(layout: Layout, data: Data, sample: Sequence[RowValues], name: str, fields: tuple[DataField, ...]) -> None:
    wanted = [column for of in fields for column in layout.of(of) if column]
    if layout.form.picture_asks and name == "question":
        return
    if sample and not any(_holds(sample, column) for column in wanted):
        raise ConfigError(
            f"data.columns.{name}: {data.path} has no column {wanted[0]!r}; {_columns_in(sample)}: name the column in "
            f"data.columns.{name}."
        )


def _columns_in(sample: Sequence[RowValues]) -> str:
    return f"it has {', '.join(dict.fromkeys(name for row in sample for name in row))}"


def _looks_like_medium(name: str, value: Any) -> bool:
    if isinstance(value, list) and value:
        return _looks_like_medium(name, value[0])
    if isinstance(value, bytes) or (isinstance(value, Mapping) and {"bytes", "path"} <= set(value)):
        return True
    text = value.strip().lower() if isinstance(value, str) else ""
    if text.endswith((*PICTURES, *_FILM)) or (text and key_of(name) in _FILE_KEYS and "://" not in text):
        return True
    return not is_missing(value) and bool(_MEDIUM.search(name))


def _holds_votes(layout: Layout, sample: Sequence[RowValues]) -> bool:
    """Whether answers that are lists are what several people wrote: in a third of the lists, half repeat others."""
    read = [value_at({"": layout.find(row, "answer")[1]}, ("",)) for row in sample]
    lists = [[str(item).strip().casefold() for item in value] for value in read if isinstance(value, list)]
    repeat = sum(2 * len(set(texts)) <= len(texts) for texts in lists if len(texts) > 1)
    return repeat > 0 and 3 * repeat >= len(lists)


def _ids_repeat(layout: Layout, sample: Sequence[RowValues]) -> bool:
    ids = Counter(str(layout.find(row, "id")[1]) for row in sample if layout.find(row, "id")[0])
    return name_images(ids.total() - len(ids), ids.total())


def name_images(repeated: int, total: int) -> bool:
    """Whether so many ids repeat others that they are the names of images: a third."""
    return repeated >= 10 and 3 * repeated >= total
