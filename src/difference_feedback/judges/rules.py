"""Grade by rule: find the final answer in a response and compare it with the annotated one.

Two final answers are compared as option letters, option texts, yes or no, normalised texts, numbers, or mathematical
expressions; the first rule that applies decides. In training, a wrong answer taken for right does more harm than a
right one taken for wrong, so an answer that no rule can compare is not correct. Nothing here raises an error, and the
time for an answer is limited.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from difference_feedback.data.conversations import texts_of
from difference_feedback.judges.extraction import final_answer
from difference_feedback.judges.math_answers import compare_expressions

_LETTER = re.compile(
    r"(?:the )?(?:option|choice|answer)?\s*\(?([a-z])\)?(?=$|[\s.:,;)/])(.*)", re.IGNORECASE | re.DOTALL
)
_MORE_LETTERS = re.compile(r"(?:[\s,;/&]|\band\b|\bor\b)+\(?([A-Z])\)?(?![\w'])")
_WRAPPED = re.compile(r"\\(?:text|mathrm|mathbf|textbf|operatorname|mbox)\s*\{([^{}]*)\}")
_TEX_UNIT = re.compile(r"(?:\\[,;! ]|~|\s)*\\(?:text|mathrm)\s*\{[^{}]*\}(?:\s*\^\s*\{?[23]\}?)?$")
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))")
_MIXED = re.compile(
    r"(?<![\d./\\}])(-?\d{1,9})\s*\\[dt]?frac\s*\{(\d{1,9})\}\s*\{(\d{1,9})\}|(-?\d{1,9})\s+(\d{1,9})/(\d{1,9})$"
)
_CLUTTER = re.compile(r"\\(?:left|right|,|;|!|quad|displaystyle)|[$\\]|\^?\{?circ\}?|[°{}~]|\*\*")
_SHORT_UNITS = r"[mgshlvwj]|[ckm]m|[mk]g|ml|ft|in|lb|oz|hr|am|pm|km/h|m/s"
_UNIT = rf"(?:{_SHORT_UNITS}|(?!pi|sqrt|sin|cos|tan|log|exp)[a-z]{{3,12}})(?:\^?[23])?"
_NUMBER = re.compile(rf"(?:[a-z]=)?\(?([-+]?\d*\.?\d+(?:e[-+]?\d{{1,3}})?)\)?(?:/\(?(\d+)\)?)?(%?)((?:{_UNIT})?)")
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?|[a-z]))")
_SIGNS = str.maketrans(
    {"−": "-", "–": "-", "％": "%", "π": "\\pi ", "×": "\\times ", "·": "\\cdot ", "²": "^2", "³": "^3"}
)
_DIGITS = 50  # longer numbers are compared as text
_EXPRESSION = re.compile(r"\d|\\(?:pi|sqrt|frac|infty|cup|emptyset)")
# A calculation such as `2 · 3 = 6`, but not a result such as `x = 5`.
_EQUATION = re.compile(r"\s*[^=\s][^=]*[^=\s]\s*=")
_WORD = re.compile(r"[^\W\d_]{2,}")
# fmt: off
_FUNCTIONS = frozenset({
    "pi", "sqrt", "sin", "cos", "tan", "cot", "log", "ln", "exp", "frac", "dfrac", "tfrac", "infty", "cup", "cap",
    "left", "right", "cdot", "times", "pm", "mp", "le", "ge", "leq", "geq", "in", "text", "circ", "begin", "end",
    "pmatrix", "bmatrix", "alpha", "beta", "theta", "emptyset", "operatorname", "mathrm", "quad", "div",
})
# fmt: on


@dataclass(frozen=True)
class Grading:
    """A verdict, the final answer that it is about, and the rule that decided."""

    correct: bool
    extracted: str | None
    """The final answer as the response states it; None when it states no answer."""
    where: str | None
    """How the final answer was found; see `extraction.Extracted`."""
    rule: str
    """`no answer`, `letter`, `several letters`, `option`, `yes or no`, `text`, `number`, `expression`, `too slow`, or
    `none` when no rule can compare the two; such an answer is not correct."""


def grade(response: str, answer: str, options: Sequence[str] | None = None) -> Grading:
    """Grade a response against the annotated `answer`.

    `options` are the texts of a multiple-choice question, from A on; `answer` is then a letter or one of the texts.
    """
    truth = str(answer).strip()
    yes_no = truth.lower() in ("yes", "no")
    final = final_answer(str(response), yes_no)
    if final is None or not final.text or not truth:
        return Grading(False, final and final.text, final and final.where, "no answer")

    def decided(correct: bool, rule: str) -> Grading:
        return Grading(correct, final.text, final.where, rule)

    letter = _letter_of_truth(truth, options)
    if options and letter:
        return decided(*_grade_choice(final.text, letter, options))
    if yes_no:
        first_word = re.match(r"\W*(yes|no)\b", _normalised(final.text))
        return decided(bool(first_word) and first_word[1] == truth.lower(), "yes or no")  # type: ignore[index]
    return decided(*_compare(final.text, truth))


def matches(response: str, answer: str, options: Sequence[str] | None = None) -> bool:
    """Whether a response's final answer is `answer`."""
    return grade(response, answer, options).correct


def final_answer_reward(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    *,
    answer: Sequence[str],
    options: Sequence[Sequence[str] | None] | None = None,
    **_: Any,
) -> list[float]:
    """TRL reward function: 1.0 if the final answer agrees with the data set's answer, else 0.0."""
    texts = texts_of(completions)
    choices = options if options is not None else [None] * len(texts)
    return [float(matches(*row)) for row in zip(texts, answer, choices, strict=True)]


def _letter_of_truth(truth: str, options: Sequence[str] | None) -> str | None:
    """The letter of a multiple-choice question's answer, which is annotated as a letter or as an option's text."""
    if not options:
        return None
    bare = truth.strip("().").upper()
    if len(bare) == 1 and 0 <= ord(bare) - 65 < len(options):
        return bare
    same = [i for i, option in enumerate(options) if _normalised(option) == _normalised(truth)]
    return chr(65 + same[0]) if len(same) == 1 else None


def _grade_choice(answer: str, truth: str, options: Sequence[str]) -> tuple[bool, str]:
    """Compare an option's whole text before its letter: if "A cat" is an option, then the "A" is not a letter."""
    plain = _plain(answer)
    same = [i for i, option in enumerate(options) if _normalised(option) == _normalised(answer) != ""]
    if len(same) == 1 and len(plain) > 1:
        return chr(65 + same[0]) == truth, "option"
    letter = _LETTER.match(plain)
    if letter and (letter[1].isupper() or not letter[2].strip(" .:)")) and ord(letter[1].upper()) - 65 < len(options):
        others = {other for other in _MORE_LETTERS.findall(letter[2][:20]) if ord(other) - 65 < len(options)}
        if others - {letter[1].upper()}:
            return False, "several letters"
        return letter[1].upper() == truth, "letter"
    place = ord(truth) - 65
    if not _compare(answer, options[place])[0]:
        return False, "option"
    rest = [option for i, option in enumerate(options) if i != place]
    return not any(_compare(answer, option)[0] for option in rest), "option"


def _compare(answer: str, truth: str) -> tuple[bool, str]:
    answer, truth = _in_tex(answer), _in_tex(truth)
    plain_answer, plain_truth = _normalised(answer), _normalised(truth)
    if plain_answer == plain_truth:
        return plain_answer != "", "text"
    number, true_number = _number(plain_answer), _number(plain_truth)
    if number and true_number:
        return _same_number(number, true_number), "number"
    (expression, unit), (true_expression, true_unit) = _without_unit(answer), _without_unit(truth)
    same_unit = not unit or not true_unit or unit == true_unit
    if _is_expression(expression) and _is_expression(true_expression) and same_unit:
        comparison = compare_expressions(_for_math(expression), _for_math(true_expression))
        if comparison in ("equal", "different"):
            return comparison == "equal", "expression"
        if comparison == "too slow":
            return False, "too slow"
    return False, "none"


def _plain(text: str) -> str:
    """The text without TeX mark-up around words."""
    return re.sub(r"\s+", " ", _WRAPPED.sub(r"\1", text).replace("\\ ", " ").strip("$*` \n\t")).strip()


def _normalised(text: str) -> str:
    """The text in lower case, without spaces, TeX mark-up, degree signs and outer punctuation; fractions as `a/b`."""
    text = _in_tex(text).replace("\\%", "%")
    text = _WRAPPED.sub(r"\1", text)
    text = _MIXED.sub(_improper, text.strip().strip("$").strip())
    text = _FRACTION.sub(lambda m: f"({m[1] or m[2]})/({m[3] or m[4]})", text)
    text = _CLUTTER.sub("", text.replace("\\ ", " "))
    text = re.sub(r"(?<=\d),(?=\d{3}(\D|$))", "", text)  # thousands
    text = re.sub(r"(?<=\d)\s*:\s*(?=\d)", "/", text)  # ratios
    return re.sub(r"\s+", "", text).strip(".,;:'\"").lower()


def _improper(match: re.Match[str]) -> str:
    """A mixed number as a fraction."""
    whole, top, bottom = (int(part) for part in match.groups() if part is not None)
    sign = -1 if match[0].lstrip().startswith("-") else 1
    return f"{sign * (abs(whole) * bottom + top)}/{bottom}" if bottom else match[0]


Quantity = tuple[Fraction, bool, str]  # value, whether a percentage, unit


def _number(text: str) -> Quantity | None:
    """A decimal or a fraction, perhaps followed by a percent sign or a unit in letters; None for anything else."""
    match = _NUMBER.fullmatch(text)
    if not match or len(text) > _DIGITS or (match[2] and not int(match[2])):
        return None
    unit = match[4].replace("^", "").removesuffix("s") if len(match[4]) > 1 else match[4]
    return Fraction(match[1]) / int(match[2] or 1), bool(match[3]), unit


def _same_number(first: Quantity, second: Quantity) -> bool:
    """Equal values, with equal units if both have one. `50 %` equals both `50` and `0.5`: data sets write either."""
    (value, percent, unit), (other, other_percent, other_unit) = first, second
    if unit and other_unit and unit != other_unit:
        return False
    if percent != other_percent:
        return value == other or (value / 100 == other if percent else value == other / 100)
    return value == other


def _without_unit(text: str) -> tuple[str, str]:
    r"""Split an expression from the unit after it, which is set in `\text{}` or `\mathrm{}`."""
    text = text.strip().strip("$").strip()
    match = _TEX_UNIT.search(text)
    return (text[: match.start()], _normalised(match[0])) if match and match.start() else (text, "")


def _is_expression(text: str) -> bool:
    """Whether a text is an expression and not words: an algebra system would read `cat` and `act` as equal products."""
    if _EQUATION.match(text) or not _EXPRESSION.search(text):
        return False
    return not any(w.lower() not in _FUNCTIONS for w in _WORD.findall(text))


def _for_math(text: str) -> str:
    return _MIXED.sub(lambda m: f"({_improper(m)})", text.strip().strip("$.").strip()).replace("°", "")


def _in_tex(text: str) -> str:
    """The text with Unicode signs replaced by their TeX commands."""
    return _ROOT.sub(lambda m: f"\\sqrt{{{m[1] or m[2]}}}", text).translate(_SIGNS)
