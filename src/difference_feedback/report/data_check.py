"""A data set before anything is trained on it: its form, its usable rows, and prompts as the model sees them."""

import re
import warnings
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from rich.console import Console

from difference_feedback.data.dataset import LoadedData, VisualQuestion, read_data
from difference_feedback.data.image_files import data_url, png_bytes
from difference_feedback.data.video import spread
from difference_feedback.models.fitting import room_for_prompts
from difference_feedback.models.processor import load_processor
from difference_feedback.models.prompt_lengths import PromptLengths
from difference_feedback.report.page_size import scaled
from difference_feedback.report.shown import SHOWN
from difference_feedback.runs.jsonl import RowProblem
from difference_feedback.runs.outputs import write_atomically
from difference_feedback.runs.prompts import prompt_form
from difference_feedback.runs.recipes import EvaluateRecipe

COUNTED = 20_000
"""Prompts whose tokens are counted; of more, so many are drawn evenly."""
_SIDE = 320  # pixels of an image on the page


@dataclass(frozen=True)
class Lengths:
    """Tokens of the prompts that were counted, and the room for a prompt."""

    tokens: list[int]
    room: int | None
    remedy: str

    @property
    def too_long(self) -> int:
        return sum(self.room is not None and length > self.room for length in self.tokens)


@dataclass(frozen=True)
class DataCheck:
    """What was found out about a data set."""

    path: str
    loaded: LoadedData
    reasons: list[tuple[str, list[RowProblem]]]
    """The rows left out, by what is wrong with them; most frequent first."""
    shown: list[VisualQuestion]
    damage: list[str]
    """What is wrong with their images once they are decoded."""
    lengths: Lengths | None


def check_data(recipe: EvaluateRecipe, model: str | None, rows: int = 10) -> DataCheck:
    """Load the recipe's `data`, and count the tokens of its prompts if there is a model. No weights are loaded.

    Raises `ConfigError` and `DataError` as `data.dataset.load_data`, but not where no row is usable.
    """
    assert recipe.data is not None
    loaded = read_data(recipe.data, prompt_form(recipe.system_prompt, recipe.format_prompt))
    by_reason: dict[str, list[RowProblem]] = {}
    for problem in loaded.problems:
        by_reason.setdefault(_reason(problem), []).append(problem)
    reasons = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    shown = loaded.select(list(range(min(rows, len(loaded.dataset))))).questions()
    lengths = _lengths(recipe, model, loaded) if model and len(loaded.dataset) else None
    return DataCheck(recipe.data.path, loaded, reasons, shown, _damage(shown), lengths)


def _damage(shown: list[VisualQuestion]) -> list[str]:
    """The warnings of decoding the images of the shown rows."""
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        for question in shown:
            for _ in question.images:
                pass
    return list(dict.fromkeys(str(warning.message) for warning in raised if warning.category is RuntimeWarning))


def print_check(check: DataCheck, console: Console) -> None:
    """Print what was found out."""

    def say(text: str = "", style: str | None = None) -> None:
        text = text.encode(errors="backslashreplace").decode()  # names of columns may hold half of a pair
        console.print(text, style=style, markup=False, highlight=False)

    layout, usable, bad = check.loaded.layout, len(check.loaded.dataset), len(check.loaded.problems)
    say(f"{check.path}: the form {layout.form.name} ({layout.form.about}), because {layout.why}.")
    for name, columns in layout.fields.items():
        say(f"  {name} <- {', '.join(columns)}")
    if layout.unused:
        say(f"  not used: {_cut(', '.join(layout.unused), 500)}")
    if layout.index_base is not None:
        say(f"  answers are indices of options, counted from {layout.index_base}")
    say(f"{usable} of {usable + bad} rows are usable.", style="bold" if usable else "bold red")
    for warning in check.loaded.warnings:
        say(f"  {warning}", style="bold yellow")
    for note, count in check.loaded.notes.items():
        say(f"  {count} images are changed: {note}")
    for reason, problems in check.reasons:
        say(f"{len(problems)} left out: {reason}", style="yellow")
        for problem in problems[:3]:
            say(f"  {problem}")
    for damage in check.damage:
        say(f"damaged: {damage}", style="yellow")
    if check.lengths is not None:
        say(_of_lengths(check.lengths))
    for question in check.shown:
        say()
        say(f"-- id {_cut(question.id, 80)} " + "-" * 40, style="bold")
        if question.system:
            say(f"system: {_cut(question.system, 500)}")
        say(_cut(seen(question), 2000))
        say(f"answer: {question.answer}" + (f" (of {len(question.options)} options)" if question.options else ""))


def seen(question: VisualQuestion) -> str:
    """The user's turn with the images' sizes at their places."""
    sizes = iter(question.images.sizes)  # type: ignore[attr-defined]
    return re.sub("<image>", lambda _: "[image {1} x {0}]".format(*next(sizes)), question.question)


def write_check_page(path: Path, check: DataCheck) -> None:
    """Write a page with the shown rows and their images. It needs no network. Every text is escaped."""
    template = files("difference_feedback.report").joinpath("data_check.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    shown = [check.shown[i] for i in spread(len(check.shown), SHOWN)]
    rows = ({"question": question, "parts": _parts(question)} for question in shown)  # one at a time is in memory
    lengths = _of_lengths(check.lengths) if check.lengths else ""
    parts = page.generate(check=check, rows=rows, shown=len(shown), lengths=lengths, title=Path(check.path).name)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # `damage` has them
        write_atomically(path, parts)


def _parts(question: VisualQuestion) -> list[dict[str, Any]]:
    """Texts and images of the user's turn, in order."""
    texts = question.question.split("<image>")
    parts: list[dict[str, Any]] = [{"text": texts[0]}]
    for image, text in zip(question.images, texts[1:], strict=True):
        size = f"{image.width} x {image.height}"
        image.thumbnail((_SIDE, _SIDE))
        parts += [{"url": scaled(data_url(png_bytes(image))), "size": size}, {"text": text}]
    return parts


def _lengths(recipe: EvaluateRecipe, model: str, loaded: LoadedData) -> Lengths:
    room = room_for_prompts(model, recipe.evaluation.max_new_tokens, recipe.max_prompt_length)
    counted = loaded.select(spread(len(loaded.dataset), COUNTED))
    tokens = PromptLengths(load_processor(model), model).count(counted.prompts, counted.sizes)
    return Lengths(tokens, room.tokens, room.remedy)


def _of_lengths(lengths: Lengths) -> str:
    median, most = (int(value) for value in np.quantile(lengths.tokens, (0.5, 0.95), method="higher"))
    text = f"prompts have {median} tokens in the median, 95 % at most {most}, the longest {max(lengths.tokens)}."
    if lengths.room is None:
        return f"{text} No limit is known."
    share = lengths.too_long / len(lengths.tokens)
    over = f"{lengths.too_long} of {len(lengths.tokens)} ({share:.1%}) are over the limit of {lengths.room}"
    return f"{text} {over}" + (f" ({lengths.remedy})." if lengths.too_long else ".")


def _reason(problem: RowProblem) -> str:
    """A problem without what differs from row to row."""
    text = re.sub(r"'[^']*'|\"[^\"]*\"|(?<=no file )\S+|\d[\d,.]*", "…", problem.message)
    return f"{problem.field}: {_cut(text, 160)}" if problem.field else _cut(text, 160)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."
