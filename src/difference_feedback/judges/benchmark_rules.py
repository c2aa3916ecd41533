"""The answer rules of MathVista, MMMU, MMStar, MathVerse, MathVision and AI2D, on each benchmark's own columns.

Their public code finds the final answer by a language model (MathVista, MathVerse), by a search for letters (MMMU), or
at the start of the response (MMStar). Here `extraction` finds it. How it is compared with the annotated answer is the
benchmark's: precision, truncation, lists, indices, several accepted answers. A guess (MMMU draws a letter at random
when a response names none) is not right. docs/reference/grading.md has the table with sources.
"""

import ast
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from rapidfuzz.distance import Levenshtein

from difference_feedback.data.conversations import texts_of
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.judges.choices import REJECTED, chosen
from difference_feedback.judges.extraction import final_answer
from difference_feedback.judges.reward_sum import RewardFunction
from difference_feedback.judges.rules import Grading, answers_of, grade
from difference_feedback.judges.values.expressions import Unreadable
from difference_feedback.judges.values.markup import plain
from difference_feedback.judges.values.quantities import number_of
from difference_feedback.runs.rewards import BENCHMARKS
from difference_feedback.runs.validation import nearest

BenchmarkRow = Mapping[str, Any]
_LARGEST = 10**300  # a float holds every smaller number
_NUMBER = re.compile(r"(?<![A-Za-z\d.])(?>-?\d+(?:,\d{3})*(?:\.\d+)?)(?!(?!st|nd|rd|th)[A-Za-z])")
_FORMULA = re.compile(r"[\\^_<>=+*]|\s[-/]\s|\bthan\b|\bat (?:least|most)\b", re.IGNORECASE)
JUDGE_RULES = {
    "mathverse": (
        "The questions are MathVerse's. The final answer must agree with the annotated answer as a whole: a part of "
        "it, an interval with other ends, or the letter of another option is incorrect. Of a multiple-choice question "
        "the letter alone, or the option's content alone, is enough. Of other questions an answer that means the same "
        "in another form is correct, for example 0.5 m and 50 cm."
    )
}
"""What a language-model judge is told of a benchmark, after the prompt of its own judge (MathVerse, score_answer)."""


def benchmark_of(task: str) -> str:
    """The benchmark of a task's name, such as `mathverse_testmini_vision_only` or `MMMU`. Raises `ConfigError`."""
    name = re.split(r"[_\-/ ]", task.strip().lower())[0]
    if name not in _RULES:
        known = ", ".join(BENCHMARKS)
        raise ConfigError(f"{task!r} has no answer rule of its own.{nearest(name, BENCHMARKS)} These have: {known}.")
    return name


def grade_by(benchmark: str, response: str, row: BenchmarkRow) -> Grading:
    """Grade a response by a benchmark's own rule; `row` has the columns of its data set.

    Raises `ConfigError` for an unknown benchmark and `DataError` for a row without the columns that its rule reads.
    """
    name = benchmark_of(benchmark)
    return _RULES[name](str(response), _Columns(name, row))


def benchmark_reward(benchmark: str) -> RewardFunction:
    """TRL reward function: 1.0 if a response is right by the benchmark's rule, else 0.0.

    `columns` has a mapping with the benchmark's columns for each row; what it lacks comes from `answer` and `options`.
    """

    def reward(
        completions: Sequence[Any],
        *,
        answer: Sequence[str],
        options: Sequence[Sequence[str] | None] | None = None,
        columns: Sequence[BenchmarkRow | str | None] | None = None,
        **_: Any,
    ) -> list[float]:
        texts = texts_of(completions)
        choices, rows = options or [None] * len(texts), columns or [None] * len(texts)
        questions = [row_of(*parts) for parts in zip(answer, choices, rows, strict=True)]
        return [float(grade_by(benchmark, *pair).correct) for pair in zip(texts, questions, strict=True)]

    reward.__name__ = benchmark
    return reward


def row_of(answer: str, options: Sequence[str] | None, columns: BenchmarkRow | str | None) -> BenchmarkRow:
    """A benchmark's columns for a question: those of its data set's row, and what a loader made of them."""
    row = {"answer": answer, "options": list(options or ()), "choices": list(options or ())}
    own = json.loads(columns) if isinstance(columns, str) else columns or {}
    return row | {name: value for name, value in own.items() if value is not None}


class _Columns:
    """A row's columns, with an error that names a missing one."""

    def __init__(self, benchmark: str, row: BenchmarkRow) -> None:
        self.benchmark, self.row = benchmark, row

    def text(self, name: str) -> str:
        value = self.row.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            raise DataError(
                f"{self.benchmark}: the row has no {name!r}, which the benchmark's rule reads. "
                f"It has {', '.join(self.row)}."
            )
        return str(value).strip()

    def optional(self, name: str) -> str:
        value = self.row.get(name)
        return "" if value is None else str(value).strip()

    def number(self, name: str) -> float:
        value = self.text(name)
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise DataError(
                f"{self.benchmark}: {name!r} is {value!r}, which is no number. Give digits, such as 1200 or 0.5."
            )
        return number

    def texts(self, name: str) -> list[str]:
        """A list of texts, also one that is written as a text (MMMU)."""
        value = self.row.get(name)
        if isinstance(value, str) and value.strip():
            value = literal_list(value)
        if value is None or isinstance(value, str) or not hasattr(value, "__iter__"):
            return []
        return [str(item) for item in value]


def literal_list(text: str) -> list[Any] | None:
    """A list that is written as a Python list; None for another text."""
    if not text.strip().startswith("["):
        return None
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, list) else None


def _mathvista(response: str, row: _Columns) -> Grading:
    """`answer_type` and `precision` decide how a number is compared; of options the text is the answer."""
    answer, kind = row.text("answer"), row.optional("answer_type") or "text"
    choices = row.texts("choices")
    if row.optional("question_type") == "multi_choice" or choices:
        if not choices:
            raise DataError(f"{row.benchmark}: the row has no 'choices', which a 'multi_choice' question needs.")
        return _mathvista_choice(response, answer, choices)
    if kind == "list":
        return _as_lists(response, answer)
    if kind not in ("integer", "float"):
        return grade(response, answer)
    truth, digits = row.number("answer"), int(row.number("precision")) if row.optional("precision") else 2
    final = final_answer(response)
    if final is None:
        return Grading(False, None, None, "no answer")
    number = _number(final.text, row.optional("unit"))
    if number is None:
        return Grading(False, final.text, final.where, "none")
    if kind == "integer":
        return Grading(int(number) == int(truth), final.text, final.where, "integer")
    same = round(float(number), digits) == round(truth, digits)
    return Grading(same, final.text, final.where, "precision")


def _mathvista_choice(response: str, answer: str, choices: Sequence[str]) -> Grading:
    grading = grade(response, answer, choices)
    if grading.rule not in ("option", "none") or grading.extracted is None or grading.correct:
        return grading
    if chosen(grading.extracted, choices).letters:
        return grading
    text = plain(grading.extracted)
    distances = [Levenshtein.distance(text, choice) for choice in choices]
    closest = choices[distances.index(min(distances))]
    return replace(grading, correct=closest == answer, rule="nearest option")


def _as_lists(response: str, answer: str) -> Grading:
    """Lists in the same order, with or without brackets."""
    final = final_answer(response)
    if final is None:
        return Grading(False, None, None, "no answer")
    first, second = (f"\\boxed{{({_items(text)})}}" for text in (final.text, answer))
    same = grade(first, second[7:-1])
    return Grading(same.correct, final.text, final.where, "list")


def _items(text: str) -> str:
    return re.sub(r"\s+and\s+", ", ", plain(text).strip().removeprefix("[").removesuffix("]").strip("()"))


def _number(text: str, unit: str = "") -> Fraction | float | None:
    """The number that a final answer is, in the row's unit where both name one; None if it is too large for a float."""
    for shorter in answers_of(text):
        try:
            value = number_of(shorter, unit)
        except Unreadable:
            continue
        if value is not None and -_LARGEST < value < _LARGEST:
            return value
    return None


def _mmmu(response: str, row: _Columns) -> Grading:
    """Of options the letter; of open questions any of the accepted answers, numbers to two decimals."""
    options = row.texts("options")
    answer = row.text("answer")
    accepted = [str(item) for item in literal_list(answer) or row.texts("answer") or [answer]]
    if options and row.optional("question_type") != "open":
        gradings = [_by_letter(response, item, options) for item in accepted]
        return next((grading for grading in gradings if grading.correct), gradings[0])
    final = final_answer(response)
    if final is None:
        return Grading(False, None, None, "no answer")
    for item in accepted:
        if grade(f"\\boxed{{{final.text}}}", item).correct or _same_open(final.text, item):
            return Grading(True, final.text, final.where, "open")
    return Grading(False, final.text, final.where, "open")


def _same_open(text: str, accepted: str) -> bool:
    """A number equal to two decimals, the answer's only one; or a text in which the accepted words occur.

    A text that rejects them (`not 3`) is not right, nor is a formula with the number in it (`x^3`).
    """
    try:
        truth = round(float(accepted.replace(",", "")), 2)
    except ValueError:
        around, count = re.subn(rf"(?<!\w){re.escape(accepted.strip())}(?!\w)", " ", text, flags=re.IGNORECASE)
        return count > 0 and len(accepted.strip()) > 1 and not _is_rejected(around)
    number = _number(text)
    if number is not None:
        return round(float(number), 2) == truth
    numbers = {round(float(item.replace(",", "")), 2) for item in _NUMBER.findall(text)}
    return numbers == {truth} and not _is_rejected(text) and not _FORMULA.search(plain(text))


def _is_rejected(text: str) -> bool:
    return bool(REJECTED.search(text) or re.search(r"\b(?:no|or)\b|n['’]t\b", text, re.IGNORECASE))


def _mmstar(response: str, row: _Columns) -> Grading:
    """The letter. The options stand in the question's text."""
    letter = row.text("answer").upper()[:1]
    return _by_letter(response, letter, options_in(row.optional("question")))


def _mathverse(response: str, row: _Columns) -> Grading:
    """Without a judge: the letter or the option's text, or equal values."""
    answer = row.text("answer")
    options = options_in(row.optional("question_for_eval") or row.optional("question"))
    if row.optional("question_type").startswith("multi") or re.fullmatch("[A-H]", answer):
        return _by_letter(response, answer, options)
    return grade(response, answer)


def _mathvision(response: str, row: _Columns) -> Grading:
    """The letter or the option's value; numbers of open questions to two decimals."""
    answer, options = row.text("answer"), row.texts("options")
    grading = grade(response, answer, options or None)
    if grading.correct or options or grading.extracted is None or grading.where == "withdrawn":
        return grading
    numbers = [_number(text, answer) for text in (grading.extracted, answer)]
    if None not in numbers and round(float(numbers[0]), 2) == round(float(numbers[1]), 2):  # type: ignore[arg-type]
        return replace(grading, correct=True, rule="two decimals")
    return grading


def _ai2d(response: str, row: _Columns) -> Grading:
    """The answer is the index of an option, from 0 on."""
    answer, options = row.text("answer"), row.texts("options")
    letter = chr(65 + int(answer)) if answer.isdecimal() and int(answer) < max(len(options), 26) else answer
    return _by_letter(response, letter, options)


def _by_letter(response: str, letter: str, options: Sequence[str]) -> Grading:
    if options and len(letter) == 1 and ord(letter) - 65 < len(options):
        return grade(response, letter, options)
    return grade(response, letter)


_OPTION = re.compile(r"(?:^|[\n,;?.]|\s{2,}|:|\s(?=\())\s*\(?([A-H])(?:\)|[:.])\s*", re.MULTILINE)


def options_in(question: str) -> list[str]:
    """The options that a question's text ends with (`A: 2, B: 3`, `(A) 2 (B) 3`, one a line); empty without any."""
    starts = list(_OPTION.finditer(question))
    first = next((i for i in range(len(starts) - 1, -1, -1) if starts[i][1] == "A"), None)
    if first is None:
        return []
    marks: list[re.Match[str]] = []
    for match in starts[first:]:
        if match[1] == chr(65 + len(marks)):
            marks.append(match)
    ends = [mark.start() for mark in marks[1:]] + [len(question)]
    options = [question[mark.end() : end].strip().rstrip(",;").strip() for mark, end in zip(marks, ends, strict=True)]
    options[-1] = options[-1].split("\n")[0].strip()
    return options if len(options) > 1 and all(options) else []


_RULES: dict[str, Callable[[str, _Columns], Grading]] = {
    "mathvista": _mathvista,
    "mmmu": _mmmu,
    "mmstar": _mmstar,
    "mathverse": _mathverse,
    "mathvision": _mathvision,
    "ai2d": _ai2d,
}
