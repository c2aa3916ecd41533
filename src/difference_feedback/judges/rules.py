"""Grade by rule: find the final answer in a response and compare it with the annotated one.

An answer names options, says yes or no, or has a value; `choices` and `values` read it. In training, a wrong answer
taken for right does more harm than a right one taken for wrong, so an answer that no rule can read safely is not
correct. Nothing here raises an error, and the time for an answer is limited. The rules stand in
docs/reference/grading.md.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from difference_feedback.data.conversations import texts_of
from difference_feedback.judges.choices import chosen, letter_of_truth, true_letters, without_labels
from difference_feedback.judges.extraction import final_answer
from difference_feedback.judges.values.equality import compare
from difference_feedback.judges.values.markup import plain
from difference_feedback.judges.values.readings import LONGEST
from difference_feedback.judges.values.sides import is_number, said_twice
from difference_feedback.judges.values.tokens import tokens_of
from difference_feedback.judges.values.units import unit_of

_POLARITIES = {"yes": ("yes", "no"), "no": ("yes", "no"), "true": ("true", "false"), "false": ("true", "false")}
_INTRODUCTION = re.compile(
    r"(?:(?:the|my)\s+)?(?:(?:final|correct)\s+)?(?:answers?|ans|答案)\s*(?:(?:is|are)\b|:|=|是)\s*(?=\S)",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r",\s+(?:which|where|not(?![^,;]*[,;])|rather than|as|since|because|i\.e|that is|obtained|rounded)\b.*"
    r"|\s+(?:because|since)\s.*|[,，]\s*而?(?:不是|非)[^,，]*"
    r"|\s+(?:[—–]|--?)\s+(?=[A-Za-z]+\s+\w+\s+\w).*",
    re.IGNORECASE | re.DOTALL,
)
_AGAIN = re.compile(r"(.+?)\s*[(\[]([^()\[\]]+)[)\]]", re.DOTALL)
_DOUBT = re.compile(
    r"\b(?:wrong|incorrect|rejected|or|maybe|perhaps|but|could|might|impossible|unless|alternative\w*|also|certain|sure"
    r"|instead|opposed|except)\b",
    re.IGNORECASE,
)
_RENAMED = re.compile(r",\s+(?:which is|that is|i\.e\.?|where|as|rounded(?: to)?)\s+(.*)", re.IGNORECASE | re.DOTALL)
# What may stand after a "no" that is an answer: a sign, or the subject of a clause. "No idea" is none.
_AFTER_NO = re.compile(
    r"\s*(?:$|[^\w\s?])|\s+(?:it|there|he|she|they|we|you|i|the|this|that|these|those|a|an|both|neither|none|not|all|only|because|since|as"
    r"|if)\b|\s+(?!more\b|fewer\b|less\b|doubt\b|matter\b|answer\b)(?:\w+\s+){1,3}(?:is|are|was|were)\b"
)
_SPOKEN_OF = re.compile(r"[\"'”’]?\s*(?:\?|(?:is|was|isn't|would|could|might|may|can|cannot|seems)\b)")


@dataclass(frozen=True)
class Grading:
    """A verdict, the final answer that it is about, and the rule that decided."""

    correct: bool
    extracted: str | None
    """The final answer as the response states it; None when it states no answer."""
    where: str | None
    """How the final answer was found; see `extraction.Extracted`."""
    rule: str
    """What decided; the table in docs/reference/grading.md names all. `none`: no rule can compare the two."""


def grade(response: str, answer: str, options: Sequence[str] | None = None) -> Grading:
    """Grade a response against the annotated `answer`.

    `options` are the texts of a multiple-choice question, from A on; `answer` is then a letter or one of the texts.
    """
    truth = str(answer).strip()
    texts = without_labels([str(option) for option in options]) if options and len(truth) <= LONGEST else None
    letters = true_letters(truth, texts) if texts else None
    letter = letter_of_truth(truth) if letters is None else None
    said = texts[ord(next(iter(letters))) - 65] if texts and letters and len(letters) == 1 else truth
    polarity = plain(said).lower() if len(said) < 20 else ""
    final = final_answer(str(response), polarity in _POLARITIES, bool(letters or letter))
    if final is None or not final.text or not truth:
        return Grading(False, final and final.text, final and final.where, "no answer")
    if final.where == "withdrawn":
        return Grading(False, final.text, final.where, "withdrawn")
    verdict: tuple[bool, str]
    if len(final.text) > LONGEST:
        verdict = compare(final.text, truth)
    elif letters and texts:
        verdict = _grade_choice(final.text, letters, texts, polarity)
    elif letter:
        verdict = _grade_letter(final.text, letter, truth)
    elif polarity in _POLARITIES:
        verdict = _polarity(final.text, _POLARITIES[polarity]) == polarity, "yes or no"
    else:
        verdict = _grade_value(final.text, truth)
    return Grading(verdict[0], final.text, final.where, verdict[1])


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


def _grade_choice(text: str, letters: frozenset[str], options: Sequence[str], polarity: str) -> tuple[bool, str]:
    choice = chosen(text, options)
    if not choice.letters and choice.rule in ("none", "option") and polarity in _POLARITIES:
        return _polarity(text, _POLARITIES[polarity]) == polarity, "yes or no"
    if choice.rule == "several letters" and choice.letters == letters:
        return True, "letters"
    return choice.letters == letters, choice.rule


def _grade_letter(text: str, letter: str, truth: str) -> tuple[bool, str]:
    """Against a letter whose option texts are not known."""
    choice = chosen(text, None)
    if choice.letters == {letter}:
        return True, choice.rule
    return (True, "text") if compare(text, truth) == (True, "text") else (False, choice.rule)


def _polarity(text: str, words: tuple[str, str]) -> str | None:
    """Which of two words, such as yes and no, a text says: its first word, or the only one of the two in it."""
    text = plain(text).lower()
    if re.search(r"\b{0}\s*(?:and|or|/|,|&)\s*{1}\b|\b{1}\s*(?:and|or|/|&)\s*{0}\b".format(*words), text):
        return None
    first = re.match(rf"\W*({words[0]}|{words[1]})\b", text)
    if first:
        other, rest = words[first[1] == words[0]], text[first.end() :]
        if _SPOKEN_OF.match(rest) or (first[1] == "no" and not _AFTER_NO.match(rest)):
            return None
        both = rf"(?:[^\w\s]|\b(?:or|and|but|also|perhaps|maybe|possibly|actually)\b)\s*{other}\b(?=\W*[,.;!?]|\W*$)"
        return None if re.search(rf"\b{other}\b\W*$|{both}", rest) else first[1]
    said = set(re.findall(rf"\b(?:{words[0]}|{words[1]})\b", text))
    if len(said) != 1 or re.search(r"\b(?:not|neither|nor|never|isn't|wrong|maybe)\b|n't\b|\\neg", text):
        return None
    if "no" in said and not all(_AFTER_NO.match(text[match.end() :]) for match in re.finditer(r"\bno\b", text)):
        return None
    return said.pop()


def _grade_value(text: str, truth: str) -> tuple[bool, str]:
    """Against a value or a text: the answer as it stands, then without what is said around it."""
    first = compare(text, truth)
    if first.equal:
        return first
    for shorter in answers_of(text)[1:]:
        comparison = compare(shorter, truth)
        if comparison.equal:
            return comparison
        first = comparison if first.rule == "none" else first
    return first


def answers_of(text: str) -> list[str]:
    """A final answer as it stands, and without an introduction, a clause after it, or itself again (`5 (five)`)."""
    shorter = [text]
    introduced = _INTRODUCTION.match(plain(text))
    if introduced:
        text = plain(text)[introduced.end() :]
        shorter.append(text)
    clause = _CLAUSE.search(text)
    if clause and clause.start() and not _DOUBT.search(clause[0]) and not _renames(text[: clause.start()], clause[0]):
        shorter.append(text[: clause.start()])
    again = _AGAIN.fullmatch(plain(text))
    if again and compare(again[1], re.sub(r"^(?:or|i\.e\.,?|that is,?)\s", "", again[2])).equal:
        shorter.append(again[1])
    elif again and unit_of(tokens_of(plain(again[2]))):
        shorter.append(f"{again[1]} {again[2]}")
    return shorter + said_twice(text)


def _renames(text: str, clause: str) -> bool:
    """Whether a clause gives a number another value: `5, which is 6`."""
    renamed = _RENAMED.fullmatch(clause)
    if not renamed or not all(is_number(side) for side in (text, renamed[1])):
        return False
    return not compare(text, renamed[1]).equal
