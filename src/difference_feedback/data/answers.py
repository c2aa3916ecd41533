"""Options of a question, and the one that an annotated answer names.

A text comes before an index: an answer that equals the text of one option is that option. A number that equals none is
an index where the form, the file or its user says from where it counts.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from difference_feedback.data.cells import is_missing, read_text, text_in
from difference_feedback.errors import FieldError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTER_LABEL = re.compile(r"\s*[(\[]?([A-Za-z])(?:[)\]]\s*[.:]?|[.:](?!\d))\s*(.*)", re.DOTALL)
_NUMBER_LABEL = re.compile(r"\s*[(\[]?(\d{1,2})(?:[)\]]\s*[.:]?|[.:](?!\d))\s*(.*)", re.DOTALL)
_RATIO = re.compile(r"\s*\d+\s*:\s*\d+\s*")
_LABELLED = re.compile(r"(?:^|(?<=[\s,;]))\(?([A-J])(?:\)|[.:])\s*")
_HEADING = re.compile(r"\b(?:options|choices)\s{0,20}[:：]\s{0,100}(?=\(?A[).:])", re.IGNORECASE)
_WITH_UNIT = re.compile(r"([-+]?\d[\d,]*(?:\.\d+)?)(?:\s*(?!pi\b)([a-z][a-z²³/.\s]+|[°%€£]\s?[cf]?)|\s([mgshlvwnjk]))?")
"""A number and its unit, in lower case. `2x` and `2 pi` have none."""
_OF_LABEL, _OF_TEXT = ("label", "id", "key", "letter"), ("text", "value", "content", "option")

_TEXT = re.compile(r"\\(?:text|mathrm|mathbf)\s?\{([^{}]*)\}")
_DEGREES = re.compile(r"\s*\^\s*(?:\\circ|\{\s*\\circ\s*\})")
_SIGNS = re.compile(r"\$|\\[()\[\],;!]|\\(?=[%$])")
_ZEROS = re.compile(r"(?<=\d)(?:\.0+|(\.\d{0,20}[1-9])0+)(?!\d)")
_ANY_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


class Options(NamedTuple):
    """The texts of a question's options, and the number of the first one where the options have numbers."""

    texts: list[str]
    first: int | None = None


def options_in(value: Any) -> Options:
    """The texts of the options, without labels of their own before them.

    They may be a list, an object with labels as its keys, a list of objects with a label and a text, or a text with
    lines, semicolons or bars between them. Raises `FieldError` where they cannot be told, or where one is empty.
    """
    if isinstance(value, str):
        value = read_text(value)
    if isinstance(value, str):
        value = _parts(value)
    if isinstance(value, Mapping):
        value = _pairs(value)
    elif isinstance(value, list) and value and all(isinstance(option, Mapping) for option in value):
        value = [pair for option in value for pair in _pairs(option)]
        if {label for label, _ in value} <= set(_OF_TEXT):
            value = [text for _, text in value]
    if not isinstance(value, list):
        raise FieldError("options", "not a list of texts: leave the field out if the question has no options.")
    if value and all(isinstance(option, tuple) for option in value):
        return _in_order(value)
    texts = _without_holes(value)
    for pattern, first in ((_LETTER_LABEL, None), (_NUMBER_LABEL, 0), (_NUMBER_LABEL, 1)):
        labels = list(LETTERS) if first is None else _numbers(first, len(texts))
        matches = [match for text in texts if (match := pattern.fullmatch(text)) and match[2].strip()]
        is_labelled = [match[1].upper() for match in matches] == labels[: len(texts)]
        without = [match[2].strip() for match in matches]
        is_sure = len(set(without)) == len(texts) and not all(map(_RATIO.fullmatch, texts))
        if len(texts) > 1 and is_labelled and is_sure:
            return Options(without, first)
    return Options(texts)


def options_of_columns(values: Sequence[Any]) -> Options:
    """Options with a column each. The text `nan` is an empty cell of pandas. Raises `FieldError`."""
    return Options(_without_holes([None if value == "nan" else value for value in values]))


def _parts(text: str) -> list[Any] | str:
    """A text with an option a line, or with options between semicolons or bars; the text where it has none of them."""
    _, labelled = split_options(text)
    if labelled:
        return list(labelled)
    for sign in ("\n", ";", "|"):
        parts = [part.strip() for part in text.strip().split(sign)]
        if len(parts) > 1 and all(parts):
            return list(parts)
    return text


def _pairs(value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Labels and texts of an object: `{"A": text}`, `{"label": "A", "text": text}`, or lists of both."""
    label = next((name for name in _OF_LABEL if name in value), None)
    text = next((name for name in _OF_TEXT if name in value), None)
    if label is None or text is None:
        return [(str(key), option) for key, option in value.items()]
    labels, texts = value[label], value[text]
    if isinstance(labels, list) and isinstance(texts, list) and len(labels) == len(texts):
        return [(str(key), option) for key, option in zip(labels, texts, strict=True)]
    return [(str(labels), texts)]


def _in_order(pairs: list[tuple[str, Any]]) -> Options:
    """Options by their labels: letters from A, or numbers from 0 or 1. Raises `FieldError` for other labels."""
    by_label = {label.strip().strip("().").upper(): option for label, option in pairs}
    first = min((int(label) for label in by_label if re.fullmatch(r"[0-9]{1,2}", label)), default=-1)
    wanted = _numbers(first, len(by_label)) if first in (0, 1) else list(LETTERS[: len(by_label)])
    if len(by_label) < len(pairs) or set(by_label) != set(wanted):
        shown = ", ".join(label for label, _ in pairs[:6])
        raise FieldError("options", f"the keys are {_shown(shown)}: name the options A, B, C, ...")
    return Options(_without_holes([by_label[label] for label in wanted]), first if first in (0, 1) else None)


def _without_holes(values: Sequence[Any]) -> list[str]:
    """The options up to the last one that is filled. Raises `FieldError` where one before it is empty."""
    values = list(values)
    while values and is_missing(values[-1]):
        values.pop()
    if len(values) > len(LETTERS):
        raise FieldError("options", f"{len(values)} options: give at most {len(LETTERS)}.")
    for letter, value in zip(LETTERS, values, strict=False):
        if is_missing(value):
            raise FieldError("options", f"option {letter} is empty, but a later one is not: give its text.")
    return [text_in(option, "options") for option in values]


def split_options(question: str) -> tuple[str, list[str]]:
    """A question with its options inside -> the question alone, and the options; none unless they are unmistakable.

    They stand behind `Options:` or `Choices:`, or each on a line of its own, and each letter occurs once, in order.
    """
    heading = _HEADING.search(question)
    start = heading.end() if heading else -1
    if heading is None:
        lines = re.search(r"^\(?A(?:\)|[.:])\s", question, re.MULTILINE)
        if lines is None:
            return question, []
        start = lines.start()
    tail = question[start:]
    labels = list(_LABELLED.finditer(tail))
    if len(labels) < 2 or [label[1] for label in labels] != list(LETTERS[: len(labels)]) or labels[0].start() != 0:
        return question, []
    ends = [label.start() for label in labels[1:]] + [len(tail)]
    options = [tail[label.end() : end].strip().rstrip(",;|").strip() for label, end in zip(labels, ends, strict=True)]
    head = question[: heading.start() if heading else start].strip()
    return (head, options) if all(options) else (question, [])


class IndexCount:
    """Counts what the answers of a file say of themselves: texts of options, or indices from 0 or from 1.

    A number that equals no option's text speaks for indices; among these, 0 speaks for counting from 0, and the number
    of options for counting from 1. A large majority decides, and one row alone only in a file of a few rows.
    """

    _MAJORITY = 0.75
    _FEW = 10

    def __init__(self) -> None:
        self.texts = self.indices = self.from_0 = self.from_1 = 0

    def add(self, answer: Any, options: Sequence[str]) -> None:
        """Count a row with options."""
        number = _number(answer)
        if number is None or options_equal(str(answer), options) or _holding(number, options):
            self.texts += 1
        elif number <= len(options):
            self.indices += 1
            self.from_0 += number == 0
            self.from_1 += number == len(options)

    @property
    def has_indices(self) -> bool:
        """Whether most answers are indices, wherever they count from."""
        return self.indices > 0 and self.indices >= self._MAJORITY * (self.indices + self.texts)

    @property
    def base(self) -> int | None:
        """The number of the first option; None where answers are no indices, or where nothing tells."""
        most, votes = max(self.from_0, self.from_1), self.from_0 + self.from_1
        decided = most >= self._MAJORITY * votes and (most > 1 or (most == 1 and self.indices <= self._FEW))
        return int(self.from_1 > self.from_0) if self.has_indices and decided else None


def option_named(answer: str, options: Sequence[str], base: int | None, is_sure: bool = False) -> str:
    """The letter of the option that an annotated answer names.

    It may be a letter, `(B)`, `B. 15`, the text of an option, or an index where `base` says from which number it
    counts. A number that is the text of one option and the index of another is neither, unless `is_sure` that answers
    are indices. Raises `FieldError` where it names none, or more than one.
    """
    letters = LETTERS[: len(options)]
    number, same = _number(answer), [letters[i] for i in options_equal(answer, options)]
    if number is not None and base is not None and not is_sure:
        index, texts = number - base, same or [letters[i] for i in _holding(number, options)]
        if 0 <= index < len(options) and len(texts) == 1 and letters[index] != texts[0]:
            raise FieldError(
                "answer",
                f"{answer} stands in option {texts[0]}, and is the index of option {letters[index]}: give the letter, "
                f"or set data.answers_from={base} if all answers are indices.",
            )
    if number is not None and base is not None and (is_sure or not same):
        if not base <= number < base + len(options):
            raise FieldError("answer", f"{answer} is no index of {len(options)} options, counted from {base}.")
        return letters[number - base]
    bare = re.fullmatch(
        r"(?:option|choice)?\s*(?:\\text\{)?[(\[]?([A-Za-z])[)\]]?\s*[.:]?\}?", answer.strip(), re.IGNORECASE
    )
    letter = bare[1].upper() if bare and bare[1].upper() in letters else None
    if letter and same and same != [letter]:
        raise FieldError(
            "answer", f"{answer!r} is a letter and the text of option {same[0]}: write ({letter}) or ({same[0]})."
        )
    if letter:
        return letter
    if len(same) == 1:
        return same[0]
    if len(same) > 1:
        raise FieldError("answer", f"{answer!r} is the text of the options {', '.join(same)}: give the letter.")
    for pattern, labels in ((_LETTER_LABEL, list(letters)), (_NUMBER_LABEL, _numbers(base, len(options)))):
        label = pattern.fullmatch(answer)
        if label and label[1].upper() in labels:
            place = labels.index(label[1].upper())
            if place in options_equal(label[2], options):
                return letters[place]
    if number is not None:
        remedy = "give the letter, or set data.answers_from=0 or 1 if all answers are indices"
        raise FieldError("answer", f"{answer} is no option's text, and may count from 0 or from 1: {remedy}.")
    raise FieldError("answer", f"{_shown(answer)} is none of the options {_shown(', '.join(options))}: give a letter.")


def options_equal(answer: str, options: Sequence[str]) -> list[int]:
    """The options whose text an answer is: as it is written, or without signs around it, or without a unit."""
    if same := [i for i, option in enumerate(options) if option.strip() == answer.strip()]:
        return same
    folded, wanted = [_folded(option) for option in options], _folded(answer)
    if same := [i for i, option in enumerate(folded) if option == wanted]:
        return same
    number = _WITH_UNIT.fullmatch(wanted)
    return [i for i, option in enumerate(folded) if _is_same_number(number, option)] if number else []


def _holding(number: int, options: Sequence[str]) -> list[int]:
    """The options that have this number and no other, such as `x = 3`."""
    return [i for i, option in enumerate(options) if _ANY_NUMBER.findall(option[:1000]) == [str(number)]]


def _number(answer: Any) -> int | None:
    match = re.fullmatch(r"(?:(?:option|choice)[\s_]?)?[(\[]?([0-9]{1,3})[)\]]?", _folded(str(answer)))
    return int(match[1]) if match and not isinstance(answer, bool) else None


def _numbers(first: int | None, count: int) -> list[str]:
    return [] if first is None else [str(first + i) for i in range(count)]


def _folded(text: str) -> str:
    """A text in lower case, with one spelling of fractions, degrees and minus signs.

    Dollars, brackets of mathematics, `\\text{}`, thin spaces and a last point are left out.
    """
    if "\\" in text or "$" in text:
        text = _DEGREES.sub("°", text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac"))
        text = _SIGNS.sub(" ", _TEXT.sub(r"\1", text))
    text = text.replace("\N{MINUS SIGN}", "-")
    return _ZEROS.sub(lambda match: match[1] or "", " ".join(text.split()).rstrip(".").strip().casefold())


def _is_same_number(number: re.Match[str], option: str) -> bool:
    """Whether two texts are one number, where only one of them has a unit, or both have the same."""
    other = _WITH_UNIT.fullmatch(option)
    if other is None or number[1].replace(",", "") != other[1].replace(",", ""):
        return False
    units = {(match[2] or match[3] or "").strip(" .") for match in (number, other)}
    return len(units - {""}) <= 1


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
