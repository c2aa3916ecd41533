"""Correctness by rule: find the final answer in a response and compare it with the annotated one.

Final answers agree as option letters, as an option's text, as yes or no, as normalised text, as numbers, or as
mathematical expressions; the first rule that can tell decides. A wrong answer taken for right does more harm in
training than the reverse, so what no rule recognises is not correct. Nothing here raises, and no answer takes long.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

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
_DIGITS = 50  # digits: longer numbers are compared as text
_EXPRESSION = re.compile(r"\d|\\(?:pi|sqrt|frac|infty|cup|emptyset)")
_EQUATION = re.compile(r"\s*[^=\s][^=]*[^=\s]\s*=")  # `x = 5` names what is found; `2 · 3 = 6` is a calculation
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
    """A verdict, what it is about, and the rule that made it."""

    correct: bool
    extracted: str | None
    """The final answer as the response states it; None when it states none."""
    where: str | None
    """Where it stood; see `extraction.Extracted`."""
    rule: str
    """`no answer`, `letter`, `several letters`, `option`, `yes or no`, `text`, `number`, `expression`, `too slow`, or
    `none` when no rule can compare the two, which is not correct."""


def grade(response: str, answer: str, options: Sequence[str] | None = None) -> Grading:
    """Grade a response against the annotated `answer`.

    `options` are a multiple-choice question's texts, A first; the answer is then a letter, or one of the texts.
    """
    truth = str(answer).strip()
    yes_no = truth.lower() in ("yes", "no")
    found = final_answer(str(response), yes_no)
    if found is None or not found.text or not truth:
        return Grading(False, found and found.text, found and found.where, "no answer")

    def decided(correct: bool, rule: str) -> Grading:
        return Grading(correct, found.text, found.where, rule)

    letter = _letter_of_truth(truth, options)
    if options and letter:
        return decided(*_grade_choice(found.text, letter, options))
    if yes_no:
        said = re.match(r"\W*(yes|no)\b", _normalised(found.text))
        return decided(bool(said) and said[1] == truth.lower(), "yes or no")  # type: ignore[index]
    return decided(*_compare(found.text, truth))


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
    """TRL reward function: 1.0 where the final answer agrees with the data set's, else 0.0."""
    texts = [completion if isinstance(completion, str) else completion[-1]["content"] for completion in completions]
    choices = options if options is not None else [None] * len(texts)
    return [float(matches(*row)) for row in zip(texts, answer, choices, strict=True)]


def _letter_of_truth(truth: str, options: Sequence[str] | None) -> str | None:
    """The letter of a multiple-choice question's answer, which may be given as a letter or as one option's text."""
    if not options:
        return None
    bare = truth.strip("().").upper()
    if len(bare) == 1 and 0 <= ord(bare) - 65 < len(options):
        return bare
    same = [i for i, option in enumerate(options) if _normalised(option) == _normalised(truth)]
    return chr(65 + same[0]) if len(same) == 1 else None


def _grade_choice(found: str, truth: str, options: Sequence[str]) -> tuple[bool, str]:
    """An option's whole text counts before a letter: "A cat" may be an option, and is no "A" then."""
    plain = _plain(found)
    same = [i for i, option in enumerate(options) if _normalised(option) == _normalised(found) != ""]
    if len(same) == 1 and len(plain) > 1:
        return chr(65 + same[0]) == truth, "option"
    letter = _LETTER.match(plain)
    if letter and (letter[1].isupper() or not letter[2].strip(" .:)")) and ord(letter[1].upper()) - 65 < len(options):
        others = {other for other in _MORE_LETTERS.findall(letter[2][:20]) if ord(other) - 65 < len(options)}
        if others - {letter[1].upper()}:
            return False, "several letters"
        return letter[1].upper() == truth, "letter"
    place = ord(truth) - 65
    if not _compare(found, options[place])[0]:
        return False, "option"
    rest = [option for i, option in enumerate(options) if i != place]
    return not any(_compare(found, option)[0] for option in rest), "option"


def _compare(found: str, truth: str) -> tuple[bool, str]:
    found, truth = _in_tex(found), _in_tex(truth)
    one, two = _normalised(found), _normalised(truth)
    if one == two:
        return one != "", "text"
    numbers = _number(one), _number(two)
    if numbers[0] and numbers[1]:
        return _same_number(numbers[0], numbers[1]), "number"
    (left, unit), (right, other_unit) = _without_unit(found), _without_unit(truth)
    if _is_expression(left) and _is_expression(right) and (not unit or not other_unit or unit == other_unit):
        verdict = compare_expressions(_for_math(left), _for_math(right))
        if verdict in ("equal", "different"):
            return verdict == "equal", "expression"
        if verdict == "too slow":
            return False, "too slow"
    return False, "none"


def _plain(text: str) -> str:
    """Without TeX mark-up around words."""
    return re.sub(r"\s+", " ", _WRAPPED.sub(r"\1", text).replace("\\ ", " ").strip("$*` \n\t")).strip()


def _normalised(text: str) -> str:
    """Lower case without spaces, TeX mark-up, signs of degree, and punctuation around; fractions as `a/b`."""
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
    """A decimal or a fraction, perhaps with a percent sign or a unit in letters behind it."""
    found = _NUMBER.fullmatch(text)
    if not found or len(text) > _DIGITS or (found[2] and not int(found[2])):
        return None
    unit = found[4].replace("^", "").removesuffix("s") if len(found[4]) > 1 else found[4]
    return Fraction(found[1]) / int(found[2] or 1), bool(found[3]), unit


def _same_number(one: Quantity, two: Quantity) -> bool:
    """Equal values whose units, where both have one, are the same. `50 %` is `50` and `0.5`, as data sets have both."""
    (value, percent, unit), (other, other_percent, other_unit) = one, two
    if unit and other_unit and unit != other_unit:
        return False
    if percent != other_percent:
        return value == other or (value / 100 == other if percent else value == other / 100)
    return value == other


def _without_unit(text: str) -> tuple[str, str]:
    r"""An expression without the unit behind it, which stands in `\text{}` or `\mathrm{}`; and the unit."""
    text = text.strip().strip("$").strip()
    found = _TEX_UNIT.search(text)
    return (text[: found.start()], _normalised(found[0])) if found and found.start() else (text, "")


def _is_expression(text: str) -> bool:
    """Something for an algebra system, not words: it would take `cat` and `act` for the same product."""
    if _EQUATION.match(text) or not _EXPRESSION.search(text):
        return False
    return not any(w.lower() not in _FUNCTIONS for w in _WORD.findall(text))


def _for_math(text: str) -> str:
    return _MIXED.sub(lambda m: f"({_improper(m)})", text.strip().strip("$.").strip()).replace("°", "")


def _in_tex(text: str) -> str:
    """Signs of Unicode as TeX writes them."""
    return _ROOT.sub(lambda m: f"\\sqrt{{{m[1] or m[2]}}}", text).translate(_SIGNS)
