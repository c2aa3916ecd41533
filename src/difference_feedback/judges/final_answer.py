"""Correctness by rule: find the final answer in a response and compare it with the annotated one.

Final answers are looked for in `\\boxed{}`, in `<answer></answer>`, after "answer is" or "answer:", and in a response
that is nothing but an answer. They agree as numbers, as option letters, as an option's text, or as normalised text.
Nothing here raises: what cannot be read is not correct.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

_TAG = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_PHRASE = re.compile(r"answer\s*(?:\bis\b|:|=)+\s*:?\s*([^\n]*)", re.IGNORECASE)
_LETTER = re.compile(r"\(?([A-Z])\)?(?=$|[\s.:,)])")
_WRAPPED = re.compile(r"\\(?:text|mathrm|mathbf|textbf|operatorname)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_SHORT = 30  # characters: a response no longer than this may be a bare answer
_DIGITS = 50  # digits: longer numbers are compared as text


def final_answer(response: str) -> str | None:
    """The last final answer in a response; None when it gives none."""
    boxed = _last_boxed(response)
    if boxed is not None:
        return boxed
    for pattern in (_TAG, _PHRASE):
        found = pattern.findall(response)
        if found:
            return _first_sentence(found[-1].strip()) if pattern is _PHRASE else found[-1].strip()
    return response.strip() if 0 < len(response.strip()) <= _SHORT else None


def matches(response: str, answer: str, options: Sequence[str] | None = None) -> bool:
    """Whether a response's final answer is `answer`. `options` are a multiple-choice question's texts, A first."""
    found = final_answer(response)
    if found is None:
        return False
    truth = answer.strip()
    if options and re.fullmatch(r"[A-Z]", truth) and ord(truth) - 65 < len(options):
        letter = _LETTER.match(_normalised(found).upper().strip())
        return letter[1] == truth if letter else _same(found, options[ord(truth) - 65])
    return _same(found, truth)


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


def _same(found: str, truth: str) -> bool:
    one, two = _normalised(found), _normalised(truth)
    if one == two:
        return one != ""
    numbers = _number(one), _number(two)
    return None not in numbers and numbers[0] == numbers[1]


def _normalised(text: str) -> str:
    """Lower case without spaces, TeX mark-up, units of degree and percent, and punctuation around."""
    text = _FRACTION.sub(r"(\1)/(\2)", _WRAPPED.sub(r"\1", text))
    text = re.sub(
        r"\\(?:left|right|,|;|!|quad|displaystyle)|[$\\]|\^?\{?circ\}?|[°%{}~]|\*\*", "", text.replace("\\ ", " ")
    )
    text = re.sub(r"(?<=\d),(?=\d{3}(\D|$))", "", text)  # thousands
    text = re.sub(r"(?<=\d)\s*:\s*(?=\d)", "/", text)  # ratios
    return re.sub(r"\s+", "", text).strip(".,;:'\"").lower()


def _number(text: str) -> Fraction | None:
    """A decimal or a fraction, with or without a unit in letters behind it."""
    found = re.fullmatch(r"(?:[a-z]=)?\(?(-?\d*\.?\d+)\)?(?:/\(?(\d+)\)?)?(?:[a-z]{1,12}[23]?)?", text.replace("^", ""))
    if not found or len(text) > _DIGITS or (found[2] and not int(found[2])):
        return None
    return Fraction(found[1]) / int(found[2] or 1)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\S)\.(?=\s|$)", text)[0].strip()


def _last_boxed(text: str) -> str | None:
    """Contents of the last `\\boxed{...}`, braces inside it balanced; None where there is none or it does not close."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for position in range(start + 6, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start + 7 : position].strip()
    return None
