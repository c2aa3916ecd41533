"""Answers that a response states in words: "the answer is 5", "Answer: B", "答案是5", "option B is correct"."""

import re
from typing import NamedTuple

from difference_feedback.judges.sentences import first_sentence

_STATEMENTS = 40  # the last ones are read
_ADVERB = (
    r"therefore|thus|hence|then|indeed|simply|just|clearly|obviously|actually|definitely|certainly|probably|likely|so"
    r"|now|always|exactly|also|given\s+by"
)
_VERB = (
    r"(?:\s+(?:(?:is|are|was)\s+equal\s+to|is|are|was|equals?|becomes|remains"
    rf"|(?:would|should|will|must|has\s+to)(?:\s+(?:{_ADVERB}))?\s+be"
    r"|c[oa]mes?\s+out\s+(?:to\s+be|as)|turns?\s+out\s+to\s+be|works\s+out\s+to(?:\s+be)?)(?![\w'])|\s*(?:[:=：→]|->|=>))"
)
_MARK = r"[*_`\"'”’\]]{0,4}"
_AFTER = (
    rf"{_MARK}(?:\s*(?:[:：]|\.\.\.|…)|\s+(?:{_ADVERB})(?![\w'])|\s+(?:the\s+)?(?:letter|option|choice)(?=\s*:?\s*\W{{0,4}}[A-Z]\b))*"
    rf"{_MARK}"
)
_ANSWER = re.compile(
    rf"\b(?:answers?|ans|solution)\b{_MARK}(?:(?:\s+(?:to|of|for|in|I|we|you)\s[^.\n:=]{{1,60}}?)?(?:\s+(?:{_ADVERB}))*"
    rf"{_VERB}{_AFTER}|(?P<heading>[ \t]*(?=\n)|\.(?=\s)))"
    r"|答案[*\s]{0,4}(?:应该|应当|应)?(?:是|为|选择?|：|:)+"
    r"|(?:故|因此|所以|应)(?:本题|答案)?(?:选择?|为)[：:]?(?=\s*[(（*]{0,3}[A-Z])",
    re.IGNORECASE,
)
_CHOICE = re.compile(
    rf"\b(?:option|choice|selection|pick|response|result|letter|final|one)\b[*_]{{0,4}}{_VERB}{_AFTER}"
    r"|\b(?:choose|chose|pick|select|go\s+with)\s+(?:the\s+)?(?:option|answer|choice)?"
    r"|选项\s{0,9}(?:是|为|选|:|：)+",
    re.IGNORECASE,
)
_CHOSEN = re.compile(
    r"(?:(?i:option|choice|answer)\s{1,3}\(?(?P<a>[A-Z])\)?|\((?P<b>[A-Z])\)|(?:^|[.,\n]|(?i:so|thus|hence|therefore))\s{0,3}"
    r"(?P<c>[A-H]))[*_]{0,2}\s{1,3}(?i:is|must be)\s{1,3}(?i:(?:the|my)\s)?(?i:correct|right|best|final|answer)\b"
    r"|(?P<d>[$\\(]{0,3}\d[^\s,;:]{0,30}|\\[^\s,;:]{1,30})\s+is\s+(?:the|our|my)\s+(?:final\s+|correct\s+)?answer\b"
    r"|(?:^|\n)[*_#\s]{0,5}(?i:answer)\s+\(?(?P<e>[A-Z])\)?[*_.]{0,3}(?=\n|$)"
    # As a last sentence: ". answer 5".
    r"|(?:^|[.!?\n])\s{0,3}(?i:(?:the\s|my\s)?(?:final\s)?answer)\s{1,3}(?P<f>[^\s.:]\S{0,30}?)[.*]{0,3}\s{0,3}$"
)
_VALUED = r"(?P<words>[^.!?\n]*?)(?:\s(?:is|are|equals)\s|\s*=\s*)(?P<value>[^=\n]{1,60}?)[.!*\s]*$"
_CONCLUSION = re.compile(
    rf"(?:^|[.!?]\s+|\n\s*)(?:therefore|thus|hence|so|consequently|in\s+conclusion|finally)\b,?\s{_VALUED}",
    re.IGNORECASE,
)
_SENTENCE = re.compile(_VALUED, re.IGNORECASE)
_DOUBT = re.compile(
    r"\b(?:not|never|no|or|if|maybe|might|could|may|perhaps|either|options?|wrong|incorrect|says|said|claims?)\b|n't\b",
    re.IGNORECASE,
)
_QUALIFIED = re.compile(
    r"(?:\b(?:correct|right|best|final|my|selected|chosen)\s+|(?:^|\n)[*_#\s]{0,6}|\b(?:I|we)(?:'d|'ll|\s+\w+)?\s+|选项)$",
    re.IGNORECASE,
)
_HEADING = re.compile(r"(?:^|\n)[#*_\s]{0,8}(?:(?:the|my|final|correct)\s+)*$", re.IGNORECASE)
# What is said about such an answer is no statement of the response's own.
_OTHERS = re.compile(
    r"\b(?:if|suppose|assume|assuming|whether|unless|wrong|incorrect|false|common|tempting|initial|previous|old|naive|says|said|claims"
    r"|claimed|thinks|thought|believes|wrote|other|another|every|any|each|no|student's|possible|alternative|question\s+and)[^\S\n]+(?:[\w'-]+[^\S\n]+){0,2}$",
    re.IGNORECASE,
)
_NEGATED = re.compile(r"(?:not|never|neither|anything\s+but|n't|\\neg|\\lnot|¬)(?![\w'])", re.IGNORECASE)
_LINE = re.compile(r"[ \t*_]*(?:(?:\\\[|\$\$|\*\*|```\w*)?[ \t]*\n\s*(?:(?:\\\[|\$\$|```\w*)\s*)?)?([^\n]*)")
_VALUE = re.compile(r"[\d\\$]|^\W{0,3}[A-Za-z]\W{0,3}(?:$|\s)|^\W{0,3}(?:yes|no|true|false)\b", re.IGNORECASE)


class Statement(NamedTuple):
    """A stated answer, its place in the response, and how it was found."""

    start: int
    end: int
    text: str
    where: str

    @property
    def is_value(self) -> bool:
        """Whether it looks like a number, a letter, mathematics, yes or no, and not like the rest of a sentence."""
        return bool(_VALUE.search(self.text))


def statements(text: str, start: int = 0) -> list[Statement]:
    """The statements in words after a place, in order. Conditions, answers of others and negations are none."""
    stated = []
    matches = [match for match in _ANSWER.finditer(text, start) if _is_statement(text, match)]
    matches += [match for match in _CHOICE.finditer(text, start) if _QUALIFIED.search(_before(text, match))]
    matches.sort(key=lambda match: match.start())
    for match in matches[-_STATEMENTS:]:
        if _OTHERS.search(_before(text, match)):
            continue
        line = _LINE.match(text, match.end())
        sentence = first_sentence(line[1]) if line else ""
        statement = Statement(match.start(), match.end() + len(sentence), sentence, "phrase")
        if not sentence or _NEGATED.match(sentence) or (match[0][:3].lower() == "sol" and not statement.is_value):
            continue
        stated.append(statement)
    if not stated:
        chosen = _CHOSEN.finditer(text, start)
        texts = [(m, next(text for text in m.groups() if text)) for m in chosen]
        stated = [Statement(m.start(), m.end(), text.strip("*$"), "phrase") for m, text in texts]
    return stated


def conclusion(text: str) -> Statement | None:
    """The value in a last sentence such as "Therefore, x = 5.", or in the only one, such as "The area is 7 cm²." """
    match = _CONCLUSION.search(text[-300:]) or (_SENTENCE.match(text) if len(text) < 200 else None)
    if not match or _DOUBT.search(match[0]):
        return None
    sentence = first_sentence(match["value"])
    statement = Statement(match.start(), match.end(), sentence, "conclusion")
    return statement if re.match(r"\W{0,4}(?:\d|[A-Z]\b|\\)", sentence) else None


def _is_statement(text: str, match: re.Match[str]) -> bool:
    return match["heading"] is None or bool(_HEADING.search(_before(text, match)))


def _before(text: str, match: re.Match[str]) -> str:
    return text[max(0, match.start() - 60) : match.start()]
