"""Which options of a multiple-choice question an answer names: by letters, by their texts, or by both."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from difference_feedback.judges.values.equality import compare
from difference_feedback.judges.values.markup import plain
from difference_feedback.judges.values.sides import said_twice
from difference_feedback.judges.values.tokens import same_text, tokens_of


class NamedOptions(NamedTuple):
    """The letters that are named, and the rule: `letter`, `option`, `several letters`, `contradiction` or `none`."""

    letters: frozenset[str]
    rule: str


NONE = NamedOptions(frozenset(), "none")
_INTRODUCTION = re.compile(
    r"(?:(?:so|thus|hence|therefore),?\s+)?(?:(?:the|my)\s+)?(?:(?:final|correct|right|best)\s+)?(?:answer|option|choice|letter|ans|选项)\b"
    r"\s*(?:is\b|:|=|would be\b)?\s*(?:(?:the\s+)?(?:option|choice|letter)\b)?\s*[:：]?\s*(?=\S)",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"(?:the )?(?:option|choice) (\d{1,2})", re.IGNORECASE)  # counted from 1 on
_SUBJECT = re.compile(r"^(?:it|they|he|she|this)\s+", re.IGNORECASE)
_PICKED = re.compile("(?:故|应|因此|所以)?选择?[：:]?")
_LETTER = re.compile(r"[(\[{<]?\s*([A-Za-z])\s*[)\]}>]?\s*(?:[.:)]|(?:\s-+\s)|\\rightarrow|,|$)\s*(.*)", re.DOTALL)
_SPACED_LETTER = re.compile(r"(?:[(\[]\s*([A-Z])\s*[)\]]|([B-HJ-Z]))\s+(?![\s=])(.*)", re.DOTALL)
_SET = re.compile(
    r"[\s(\[{]*[A-Z](?:[)\]}\s,;/&.+(\[{]|\band\b|\bor\b)*(?:[A-Z](?:[)\]}\s,;/&.+(\[{]|\band\b|\bor\b)*)+"
)
_CHINESE_AFTER = re.compile("(?<=[A-Z])\\s?(?:选?项)?(?:是?正确的?)?$")
_BRACKETED = re.compile(r"(?:[(\[]\s*[a-z]\s*[)\]](?:\s|[,;/&]|and\b|or\b)*){2,}")
_MENTION = re.compile(
    r"(?:[(\[]\s*([A-Z])\s*[)\]]|(?i:option|choice|letter|answer)\s+(?:is\s+)?\(?([A-Z])\b"
    r"|(?<![A-Za-z0-9_'])([A-Z])(?![A-Za-z0-9_'^])(?!\s*[-+=]))"
)
_NOT = re.compile(
    r",?\s*(?:and|but|or)?\s*\b(?:not|isn't|never|rather than|instead of|neither|nor)\b\s*(?:the\s+)?(?:option\s+)?"
    r"[(\[]?((?-i:[A-Z]))\b[)\]]?",
    re.IGNORECASE,
)
REJECTED = re.compile(
    r"\b(?:not|isn't|wrong|incorrect|false|rejected|impossible|neither|nor|never|excluded|eliminated|cannot|can't"
    r"|unlikely|hardly|except|excluding|exclude|other\s+than|anything\s+but|all\s+but|ruled\s+out|fails)\b|\bno\W*$|^!"
    r"|\\neg|¬|[不非错误除]|以外|之外",
    re.IGNORECASE,
)
_LAST = re.compile(r"(?:^|[,.;]\s*)(?:so|thus|hence|therefore)\b[,:]?\s*(.*)", re.IGNORECASE | re.DOTALL)
_CORRECT = re.compile(
    r"\s*(?:is|must be)\s+(?:the\s+)?(?:correct|right|best|answer|true)\b[^?]*", re.IGNORECASE | re.DOTALL
)
_LABEL = re.compile(r"\s*[(\[]?\s*([A-Za-z])\s*[)\].:]\s*(?=\S)")
_HEDGE = re.compile(r"\b(?:or|maybe|perhaps|either|possibly|both)\b", re.IGNORECASE)


def without_labels(options: Sequence[str]) -> list[str]:
    """The options without `A.`, `B.`, ... where all have their own letter."""
    labels = [_LABEL.match(option) for option in options]
    if all(label and label[1].upper() == chr(65 + i) for i, label in enumerate(labels)):
        return [option[label.end() :] for option, label in zip(options, labels, strict=True) if label]
    return list(options)


def letter_of_truth(truth: str) -> str | None:
    """The letter of an answer that is annotated as one (`B`, `(B)`, `Option B`), without options."""
    match = re.fullmatch(r"(?:(?i:option|choice|answer)\s*:?\s*)?\(?\s*([A-Z])\s*\)?\.?", plain(truth))
    return match[1] if match else None


def true_letters(truth: str, options: Sequence[str]) -> frozenset[str] | None:
    """The letters of the annotated answer: a letter, several, an option's text, or (as in AI2D) its index from 0 on."""
    text = plain(truth)
    letter = letter_of_truth(truth) or (text.upper() if len(text) == 1 and text.isalpha() else None)
    valid = _letters(options)
    if letter and letter in valid:
        return frozenset({letter})
    same = _with_text(text, options, valid)
    if same:
        return frozenset(same) if len(same) == 1 else None
    labelled = _LETTER.fullmatch(text) or _SPACED_LETTER.fullmatch(text)
    if labelled:
        letter = next((group for group in labelled.groups()[:-1] if group), "").upper()
        if letter in valid and compare(labelled.groups()[-1], options[valid.index(letter)]).equal:
            return frozenset({letter})
    several = re.findall("[A-Z]", text) if _SET.fullmatch(text.strip("[]").replace("'", "")) else []
    if len(several) > 1 and len(set(several)) == len(several) and set(several) <= set(valid):
        return frozenset(several)
    equal = [named for named, option in zip(valid, options, strict=False) if compare(truth, option).equal]
    if len(equal) == 1:
        return frozenset(equal)
    if not equal and re.fullmatch("[0-9]{1,2}", text) and int(text) < len(valid):
        return frozenset({valid[int(text)]})
    return None


def chosen(answer: str, options: Sequence[str] | None) -> NamedOptions:
    """The options that an answer names. Without `options`, letters alone are read, and texts after them are not."""
    text = plain(answer)
    introduction = _INTRODUCTION.match(text) or _PICKED.match(text)
    text = text[introduction.end() :] if introduction else text
    text = _CHINESE_AFTER.sub("", text)
    if _BRACKETED.fullmatch(text):  # (a) (b)
        text = text.upper()
    valid = _letters(options) if options else [chr(65 + i) for i in range(26)]
    if len(text.strip("()[]. ")) == 1 and text.strip("()[]. ").upper() in valid:
        return NamedOptions(frozenset({text.strip("()[]. ").upper()}), "letter")
    if options:
        number = _NUMBERED.fullmatch(plain(answer))
        if number and 0 < int(number[1]) <= len(valid) and not _with_value(number[1], options, valid):
            return NamedOptions(frozenset({valid[int(number[1]) - 1]}), "option")
        same = _with_text(text, options, valid) or _with_text(_SUBJECT.sub("", text), options, valid)
        if len(same) == 1:
            return NamedOptions(frozenset(same), "option")
        label = _LETTER.match(text) or _SPACED_LETTER.match(text) or re.fullmatch(r"([A-Z])\((.*)\)", text, re.DOTALL)
        letter = next((group for group in label.groups()[:-1] if group), "").upper() if label else ""
        if label and _with_text(label.groups()[-1], options, valid) == [letter]:  # (A) P and R
            return NamedOptions(frozenset({letter}), "letter")
    if _SET.fullmatch(text):
        letters = re.findall("[A-Z]", text)
        if set(letters) <= set(valid) and len(set(letters)) == len(letters) and not re.search(r"\bor\b", text):
            return NamedOptions(frozenset(letters), "several letters")
        return NamedOptions(frozenset(), "several letters")
    labelled = _labelled(text, options, valid)
    if labelled is not None:
        return labelled
    last = _LAST.search(text)
    if last and last.start() and len(last[1]) < 60:
        return _agreeing(chosen(last[1].rstrip("."), options), text[: last.start()], options, valid)
    return _mentioned(text, options, valid)


def _letters(options: Sequence[str]) -> list[str]:
    return [chr(65 + i) for i in range(min(len(options), 26))]


def _with_text(text: str, options: Sequence[str], valid: Sequence[str]) -> list[str]:
    tokens = tokens_of(text)
    return [
        letter for letter, option in zip(valid, options, strict=False) if same_text(tokens, tokens_of(plain(option)))
    ]


def _with_value(text: str, options: Sequence[str], valid: Sequence[str]) -> list[str]:
    sides = [text, *said_twice(text)]
    return _with_text(text, options, valid) or [
        letter
        for letter, option in zip(valid, options, strict=False)
        if any(compare(side, option).equal for side in sides)
    ]


def _labelled(text: str, options: Sequence[str] | None, valid: Sequence[str]) -> NamedOptions | None:
    """A letter with what follows it: its option's text, or words that name no other option."""
    match = _LETTER.match(text)
    letter, rest = (match[1], match[2]) if match else ("", "")
    if not match or (letter.islower() and not (options and re.match(r"[(\[]?[a-z][)\].:]", text))):
        spaced = _SPACED_LETTER.match(text)
        article = re.match(r"([AI])\s+(.*)", text, re.DOTALL)
        if spaced:
            letter, rest = spaced[1] or spaced[2], spaced[3]
        elif article and options:
            letter, rest = article[1], _without_brackets(article[2])
            if letter not in valid or _with_text(rest, options, valid) != [letter]:
                return None
        else:
            return None
    letter, rest = letter.upper(), rest.strip()
    if letter not in valid:
        return None
    rest = _NOT.sub("", " " + rest).strip()
    rest = _without_brackets(rest)
    introduction = _INTRODUCTION.match(rest)
    rest = rest[introduction.end() :] if introduction else rest
    correct = _CORRECT.fullmatch(" " + rest)
    if not rest or (correct and not _others(rest, {letter}, valid)):
        return NamedOptions(frozenset({letter}), "letter")
    if options:
        equal = _with_value(rest, options, valid)
        if equal:
            return (
                NamedOptions(frozenset({letter}), "letter")
                if letter in equal
                else NamedOptions(frozenset(), "contradiction")
            )
    if REJECTED.search(rest) and not (options and REJECTED.search(options[valid.index(letter)])):
        return NamedOptions(frozenset(), "none")
    own = plain(options[valid.index(letter)]) if options else ""
    more = rest[len(own) :] if rest.casefold().startswith(own.casefold()) else rest
    if options and _listed(more, options, valid) - {letter}:
        return NamedOptions(frozenset(), "several letters")
    if _others(rest, {letter}, valid) or re.match(r"(?:or|and|/|,)\b", rest):
        return NamedOptions(frozenset(), "several letters")
    return NamedOptions(frozenset({letter}), "letter")


def _listed(text: str, options: Sequence[str], valid: Sequence[str]) -> set[str]:
    """The options whose whole texts are items of a list: `cat, dog or bird`."""
    items = re.split(r"\s*[,;/|&]\s*|\s*\b(?:and|or|then|also|alternatively|maybe|perhaps)\s+", text)
    return {letter for item in items[:64] for letter in _with_text(item, options, valid)} if len(items) > 1 else set()


def _without_brackets(text: str) -> str:
    return text[1:-1] if re.fullmatch(r"\([^()]*\)|\[[^\[\]]*\]", text) else text


def _others(text: str, letters: set[str], valid: Sequence[str]) -> set[str]:
    """Other letters that a text names. An `A` or `I` before a word in small letters is an article or a pronoun."""
    others = set()
    for match in _MENTION.finditer(text):
        letter = match[1] or match[2] or match[3]
        article = match[3] in ("A", "I") and re.match(r"\s+(?!(?:or|and)\b)[a-z]", text[match.end() :])
        if letter in valid and letter not in letters and not article:
            others.add(letter)
    return others


def _mentioned(text: str, options: Sequence[str] | None, valid: Sequence[str]) -> NamedOptions:
    """The one letter named in brackets, by `option`, or after other words; else the option of the same value."""
    bare = _NOT.sub("", text)
    correct = _CORRECT.sub("", bare)
    if REJECTED.search(correct) and not (options and _with_text(correct, options, valid)):
        return NONE
    named = _others(correct, set(), valid)
    strong = {m[1] or m[2] for m in _MENTION.finditer(correct) if m[1] or m[2]} & set(valid)
    if len(named) == 1 and (
        strong or len(correct.strip()) <= 3 or re.search(r",\s*(?:so|thus|hence|i\.e\.?)?\s*[A-Z]$", correct)
    ):
        return _agreeing(NamedOptions(frozenset(named), "letter"), _MENTION.sub("", correct), options, valid)
    if not options:
        return NamedOptions(frozenset(), "several letters" if len(named) > 1 else "none")
    equal = _with_value(correct, options, valid)
    if not equal:
        clause = re.split(r",\s+(?=[a-z])|\s+(?:because|since|as)\s", correct)[0]
        single = clause != correct and not _HEDGE.search(correct) and len(_listed(correct, options, valid)) < 2
        equal = _with_value(clause, options, valid) if single else []
    if len(equal) == 1:
        return NamedOptions(frozenset(equal), "option")
    return NamedOptions(frozenset(), "several letters" if len(strong) > 1 else "option")


def _agreeing(choice: NamedOptions, text: str, options: Sequence[str] | None, valid: Sequence[str]) -> NamedOptions:
    """The choice, unless a text beside it is another option's."""
    if options and choice.letters:
        beside = re.sub(
            r"[()\[\]]|,?\s*(?:which (?:is|matches|corresponds to)|corresponding to|so|that is|i\.e\.?|namely"
            r"|option|choice|answer)\b",
            " ",
            text,
        ).strip(" ,.:;=-")
        equal = _with_value(beside, options, valid) if beside else []
        if equal and not choice.letters & set(equal):
            return NamedOptions(frozenset(), "contradiction")
    return choice
