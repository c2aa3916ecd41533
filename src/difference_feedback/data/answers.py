"""Annotated answers: the final answer within its wrapping, and the option that it names."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from difference_feedback.data.cells import is_missing, read_text, text_in
from difference_feedback.errors import FieldError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LONGEST_BARE = 100
"""An accepted text of at most this many characters, on one line, is a final answer as a whole."""
_TAG = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_PHRASES = re.compile(
    r"^\W*(?:the\s+)?(?:final\s+|correct\s+)?answer\s*(?:is|[:：])+\s*(.+)$"
    r"|\bfinal answer\s*(?:is|[:：])+\s*(.+)$|\bthe (?:correct )?answer (?:is|would be)\s*[:：]?\s*(.+)$|^####\s*(.+)$",
    re.IGNORECASE | re.MULTILINE,
)
_LABEL = re.compile(r"^\s*[(\[]?([A-Za-z])(?:[)\]]\s*[.:]?|[.:](?!\d))\s*(.*)$", re.DOTALL)
_LABELLED = re.compile(r"(?:^|(?<=[\s,;]))\(?([A-J])(?:\)|[.:])\s*")


def unwrapped(text: str) -> str:
    r"""An annotated answer without what is around it: `\boxed{3}`, `<answer> 3 </answer>`, `$3$`, `Answer: 3`."""
    text = text.strip()
    if tags := _TAG.findall(text):
        text = tags[-1].strip()
    if boxes := boxed(text):
        return ", ".join(boxes)
    if (label := re.fullmatch(r"(?:final )?answer\s*[:：]\s*(.+)", text, re.IGNORECASE | re.DOTALL)) is not None:
        text = label[1].strip()
    if len(text) > 2 and text[0] == text[-1] == "$" and "$" not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def final_answer_of(text: str) -> str | None:
    """The final answer that an accepted text states, or the whole of a short one; None where there is none."""
    text = text.strip()
    if _TAG.search(text) or boxed(text):
        return (unwrapped(text) if _TAG.search(text) else boxed(text)[-1]) or None
    stated = [next(part for part in groups if part) for groups in _PHRASES.findall(text)]
    if stated:
        return unwrapped(stated[-1].strip().strip("*").rstrip(".").strip()) or None
    return text if 0 < len(text) <= LONGEST_BARE and "\n" not in text else None


def boxed(text: str) -> list[str]:
    r"""The contents of every `\boxed{...}` that is closed."""
    contents, place = [], text.find("\\boxed{")
    while place >= 0:
        depth = 0
        for end in range(place + 6, len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                contents.append(text[place + 7 : end].strip())
                break
        place = text.find("\\boxed{", place + 7)
    return contents


def options_in(value: Any) -> list[str]:
    """The texts of the options, without letters of their own before them. Raises `FieldError`."""
    if isinstance(value, str):
        value = read_text(value)
    if isinstance(value, dict):
        letters = [str(key).strip().upper() for key in value]
        value = [option for option in value.values() if not is_missing(option)]
        if letters[: len(value)] != list(LETTERS[: len(value)]):
            raise FieldError("options", f"the keys are {', '.join(letters[:6])}: name the options A, B, C, ...")
    if not isinstance(value, list):
        raise FieldError("options", "not a list of texts: leave the field out if the question has no options.")
    options = [text_in(option, "options") for option in value]
    if len(options) > len(LETTERS):
        raise FieldError("options", f"{len(options)} options: give at most {len(LETTERS)}.")
    labels = [_LABEL.match(option) for option in options]
    if len(options) > 1 and all(
        label and label[1] == letter and label[2].strip() for label, letter in zip(labels, LETTERS, strict=False)
    ):
        return [label[2].strip() for label in labels if label]
    return options


def split_options(question: str) -> tuple[str, list[str]]:
    """A question with its options inside -> the question alone, and the options; none unless they are unmistakable.

    They stand behind `Options:` or `Choices:`, or each on a line of its own, and each letter occurs once, in order.
    """
    heading = re.search(r"\n?\s*\b(?:options|choices)\s*[:：]\s*(?=\(?A[).:])", question, re.IGNORECASE)
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
    options = [tail[label.end() : end].strip().rstrip(",;").strip() for label, end in zip(labels, ends, strict=True)]
    head = question[: heading.start() if heading else start].strip()
    return (head, options) if all(options) else (question, [])


def index_base(rows: Iterable[tuple[Any, Sequence[str]]]) -> int | None:
    """Whether answers count the options from 0 or from 1, where all of them are such numbers and one of them tells.

    An answer 0 can only count from 0, and the number of options only from 1. None where the texts of the options are
    these numbers, or where nothing tells.
    """
    numbers = [(_number(answer), options) for answer, options in rows if options]
    if not numbers or any(number is None or number > len(options) for number, options in numbers):
        return None
    if all(str(number) in options for number, options in numbers):
        return None
    from_0 = any(number == 0 for number, _ in numbers)
    from_1 = any(number == len(options) for number, options in numbers)
    return None if from_0 == from_1 else int(from_1)


def option_named(answer: str, options: Sequence[str], base: int | None) -> str:
    """The letter of the option that an annotated answer names.

    It may be a letter, `(B)`, `B. 15`, the text of an option, or an index where `base` says from which number it
    counts. Raises `FieldError` where it names none, or more than one.
    """
    letters = LETTERS[: len(options)]
    number = _number(answer)
    if base is not None and number is not None:
        if not base <= number < base + len(options):
            raise FieldError("answer", f"{answer} is no index of {len(options)} options, counted from {base}.")
        return letters[number - base]
    texts = [_folded(option) for option in options]
    same = [letter for letter, text in zip(letters, texts, strict=True) if text == _folded(answer)]
    bare = re.fullmatch(r"(?:option|choice)?\s*[(\[]?([A-Za-z])[)\]]?\s*[.:]?", answer.strip(), re.IGNORECASE)
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
    label = _LABEL.match(answer)
    if label and label[1].upper() in letters and _folded(label[2]) == texts[letters.index(label[1].upper())]:
        return label[1].upper()
    if number is not None:
        remedy = "give the letter, or set data.form=ai2d if all answers count from 0"
        raise FieldError("answer", f"{answer} is no option's text, and may count from 0 or from 1: {remedy}.")
    raise FieldError("answer", f"{_shown(answer)} is none of the options {_shown(', '.join(options))}: give a letter.")


def _number(answer: Any) -> int | None:
    text = str(answer).strip()
    return int(text) if re.fullmatch(r"\d{1,3}", text) and not isinstance(answer, bool) else None


def _folded(text: str) -> str:
    return " ".join(text.split()).rstrip(".").casefold()


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
