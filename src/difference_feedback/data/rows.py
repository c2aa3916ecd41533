"""One row of any form -> what is asked, the answer, the options, and where its images and videos are."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from difference_feedback.data.answers import LETTERS, option_named, options_equal, split_options
from difference_feedback.data.cells import Place, RowValues, is_missing, place_of, read_text, text_in, value_at
from difference_feedback.data.final_answers import final_answer_of, unwrapped
from difference_feedback.data.forms import VISION_ONLY
from difference_feedback.data.layout import Layout
from difference_feedback.data.marks import MARK, as_text, without_marks
from difference_feedback.data.pictures import PICTURES, STILL
from difference_feedback.data.turns import Turns, messages_in, read_turns
from difference_feedback.errors import FieldError
from difference_feedback.runs.json_values import is_unicode
from difference_feedback.runs.sections import DataField

_LONGEST_KEPT = 20_000  # characters of a column that is kept for reward functions; a longer one holds an image


@dataclass(frozen=True)
class MediumCell:
    """An image, or a video, as the row has it: its value, and where it stands."""

    value: Any
    place: Place


@dataclass
class ReadRow:
    """A row in this package's fields. The question has its options below it, and marks as the row has them."""

    id: str | None
    question: str
    answer: str
    options: list[str]
    reference: str | None
    system: str | None
    images: list[MediumCell] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """The numbers by which marks name the images."""
    drops_unmarked: bool = False
    videos: list[list[MediumCell]] = field(default_factory=list)
    """One cell for a file, several for the frames of a video."""


def read_row(row: RowValues, layout: Layout) -> ReadRow:
    """Read a row by its file's layout. Raises `FieldError` for the first field that cannot be used."""
    turns = _turns(row, layout)
    question = _question(row, layout, turns)
    options, first = layout.options(row)
    if not options and layout.form.options_in_question:
        question, options = split_options(question)
    answer, reference = _answer(row, layout, turns, options)
    if options and first is not None and not layout.is_sure_of_indices:
        answer = option_named(answer, options, first)
    elif options:
        answer = option_named(answer, options, layout.index_base, layout.is_sure_of_indices)
    _, context = layout.find(row, "context")
    if not is_missing(context) and context != "nan":
        question = f"{text_in(context, 'context')}\n{question}"
    images, numbers, drops_unmarked = _images(row, layout, turns)
    videos = _videos(row, layout, turns)
    if not images and _marks_frames(question, videos):
        images, videos = videos[0], []
        numbers = list(range(1, len(images) + 1))
    _, system = layout.find(row, "system")
    system = turns.system if system is None else text_in(system, "system")
    return ReadRow(
        id=_id(row, layout),
        question=as_text("\n".join([question, *_choices(options)])),
        answer=answer,
        options=[without_marks(as_text(option)) for option in options],
        reference=reference,
        system=without_marks(as_text(system)) if system else None,
        images=images,
        numbers=numbers,
        drops_unmarked=drops_unmarked,
        videos=videos,
    )


def kept_columns(row: RowValues, layout: Layout) -> dict[str, Any]:
    """The row's own columns but images, conversations and other large ones: what a benchmark's own rule may read."""
    skipped = {place_of(row, column)[0] for name in ("image", "video", "messages") for column in layout.of(name)}
    return {name: value for name, value in row.items() if name not in skipped and is_unicode(name) and _is_small(value)}


def _is_small(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_small, value.values()))
    if isinstance(value, list):
        return len(value) <= 1000 and all(map(_is_small, value))
    return value is None or isinstance(value, bool | int | float) or _is_short(value)


def _is_short(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_KEPT


def _turns(row: RowValues, layout: Layout) -> Turns:
    if _is_given(row.get("tools")):
        raise FieldError("tools", "rows that use tools cannot be trained on: leave the tools out.")
    if _is_given(row.get("history")):
        raise FieldError("history", "it has several questions: make a row of each question.")
    names: tuple[DataField, ...] = ("question", "messages")
    for name in names:
        place, value = layout.find(row, name)
        read = messages_in(value)
        if isinstance(read, list) and (name == "messages" or any(isinstance(item, Mapping) for item in read)):
            return read_turns(value, place)
        if isinstance(value, str) and place[0] not in layout.of("reference"):
            return Turns(question=value)
    return Turns()


def _is_given(value: Any) -> bool:
    read = read_text(value) if isinstance(value, str) else value
    return bool(read) and not is_missing(read) and str(read).strip().lower() not in ("null", "none", "nan")


def _question(row: RowValues, layout: Layout, turns: Turns) -> str:
    if turns.question.strip():
        return turns.question.strip()
    place, value = layout.find(row, "question")
    if isinstance(value, bytes | pa.Buffer):
        return text_in(value, "question")
    if place and not isinstance(value, str):
        raise FieldError("question", f"the type is {type(value).__name__}: give the question as a text.")
    if layout.form.picture_asks:
        return VISION_ONLY
    raise FieldError("question", "missing or not a text: give the question.")


def _answer(row: RowValues, layout: Layout, turns: Turns, options: list[str]) -> tuple[str, str | None]:
    """The answer by which responses are graded, and the accepted text that states it, where there is one."""
    place, value = layout.find(row, "answer")
    reference = _accepted(layout.find(row, "reference")[1]) or turns.answer
    if place:
        if isinstance(value, bool) and options and not options_equal(str(value), options):
            value = "yes" if value else "no"
        whole = _annotated(value, layout.form.lists_spellings, bool(options))
        text = whole if len(options_equal(whole, options)) == 1 else unwrapped(whole)
        if not text:
            raise FieldError("answer", "nothing stands within its wrapping: give the answer.")
        if place[0] in _WORKED and "answer" not in layout.columns and not options and final_answer_of(whole) is None:
            raise _stateless(place[0], whole)
        return text, reference
    if reference is None:
        raise FieldError("answer", "missing or not a text: give the answer by which responses are graded.")
    answer = final_answer_of(reference)
    if answer is None:
        raise _stateless("accepted text", reference)
    return answer, reference if reference.strip() != answer else None


_WORKED = ("solution", "response")
"""Columns that may hold a worked solution in place of an answer."""


def _stateless(name: str | int, text: str) -> FieldError:
    return FieldError(
        "answer",
        f"the {name} of {len(text)} characters states no final answer: end it with 'Final answer: ', give the answer "
        "in a column, or name the text in data.columns.answer and let a judge grade.",
    )


def _annotated(value: Any, are_spellings: bool, has_options: bool) -> str:
    """An annotated answer as text. A list of several stays one: `[1, 2]`, or `a, b` of texts. Raises `FieldError`.

    The text `[0, 1]` is an interval, and `['a', 'b']` a list.
    """
    read = read_text(value) if isinstance(value, str) else value
    texts = isinstance(read, list) and bool(read) and all(isinstance(item, str) for item in read)
    if not isinstance(read, list) or (read is not value and not texts):
        return text_in(value, "answer")
    if len(read) == 1:
        return text_in(read[0], "answer")
    if texts and are_spellings:
        folded = [item.strip().casefold() for item in read]
        return str(read[folded.index(Counter(folded).most_common(1)[0][0])]).strip()
    if has_options:
        raise FieldError("answer", f"{len(read)} answers: a question with several right options cannot be graded.")
    if any(isinstance(item, str) for item in read):
        return ", ".join(text_in(item, "answer") for item in read)
    return _numbers(read)


def _numbers(values: list[Any]) -> str:
    """Numbers, or lists of numbers, as text. Raises `FieldError` for what is neither."""
    items = [_numbers(item) if isinstance(item, list) and item else text_in(item, "answer") for item in values]
    if not items or any(isinstance(item, str) for item in values):
        raise FieldError("answer", "a list of lists of texts: give a text.")
    return f"[{', '.join(items)}]"


def _accepted(value: Any) -> str | None:
    """The accepted text: a text, or the last turn of a conversation."""
    if isinstance(value, list) and value and isinstance(value[-1], Mapping):
        value = value[-1].get("content", value[-1].get("value"))
        if isinstance(value, list):
            value = "".join(str(part.get("text") or "") for part in value if isinstance(part, Mapping))
    return value if isinstance(value, str) and value.strip() else None


def _id(row: RowValues, layout: Layout) -> str | None:
    place, value = layout.find(row, "id")
    return text_in(value, "id") if place else None


def _choices(options: list[str]) -> list[str]:
    letters = list(LETTERS[: len(options)])
    if options == letters:
        return [f"Choose one of {', '.join(letters)}."] if options else []
    return [f"{letter}. {option}" for letter, option in zip(letters, options, strict=True)]


def _images(row: RowValues, layout: Layout, turns: Turns) -> tuple[list[MediumCell], list[int], bool]:
    """The row's images, the numbers by which marks name them, and whether these are the numbers of columns."""
    inline = [MediumCell(value_at(row, place), place) for kind, place in turns.inline if kind == "image" and place]
    for names in layout.media_columns(row, "image"):
        cells = [_cells(row, name) for name in names]
        numbered = len(names) > 1 and all(map(_NUMBER.search, names[1:])) and max(map(len, cells)) <= 1
        flat = [cell for of_column in cells for cell in of_column]
        if not flat:
            continue
        if inline and len(inline) != len(flat):
            where = f"{len(inline)} images are in the message, and {len(flat)} in {', '.join(names)}"
            raise FieldError("image", f"{where}: keep them in one place.")
        if numbered:
            return flat, [_number(name) for name, of_column in zip(names, cells, strict=True) if of_column], True
        return flat, list(range(1, len(flat) + 1)), False
    return inline, list(range(1, len(inline) + 1)), False


_NUMBER = re.compile(r"([0-9]{1,4})\D*$")


def _number(name: str) -> int:
    """The number of a column; `image` beside `image_2` is the first."""
    match = _NUMBER.search(name)
    return int(match[1]) if match else 1


def _cells(row: RowValues, name: str) -> list[MediumCell]:
    """The images of a column: one, a list, or paths in one text with semicolons between them."""
    place = place_of(row, name)
    value = value_at(row, place)
    if isinstance(value, str):
        value = read_text(value)
    if isinstance(value, str) and ";" in value and not value.startswith("data:"):
        paths = [path.strip() for path in value.split(";")]
        if all(path.lower().endswith(PICTURES) for path in paths):
            return [MediumCell(path, ()) for path in paths]
    if isinstance(value, list):
        return [MediumCell(item, (*place, i)) for i, item in enumerate(value)]
    if isinstance(value, Mapping) and all(map(is_missing, value.values())):  # an empty cell as pyarrow may write it
        return []
    return [] if is_missing(value) else [MediumCell(value, place)]


def _videos(row: RowValues, layout: Layout, turns: Turns) -> list[list[MediumCell]]:
    """For each video its file, or the files of its frames."""
    for names in layout.media_columns(row, "video"):
        cells = [cell for name in names for cell in _cells(row, name)]
        if not cells:
            continue
        of_frames = all(isinstance(cell.value, str) and cell.value.lower().endswith(STILL) for cell in cells)
        of_one = len(names) == 1 and not names[0].lower().startswith("videos")
        if len(cells) > 1 and (of_frames or (of_one and all(isinstance(cell.value, Mapping) for cell in cells))):
            return [cells]
        return [_frames(cell) for cell in cells]
    return [[MediumCell(value_at(row, place), place)] for kind, place in turns.inline if kind == "video" and place]


def _marks_frames(question: str, videos: list[list[MediumCell]]) -> bool:
    """Whether the marks `<image>` of a row without images are for the frames of its only video, one each."""
    marks = [match[1].lower() for match in MARK.finditer(question)]
    return len(videos) == 1 and "video" not in marks and len(marks) == len(videos[0]) > 1


def _frames(cell: MediumCell) -> list[MediumCell]:
    if isinstance(cell.value, list):
        return [MediumCell(item, (*cell.place, i)) for i, item in enumerate(cell.value)]
    return [cell]
