"""Answers that a response states in words: "the answer is 5", "Answer: B", "答案是5", "option B is correct"."""

import re
from typing import NamedTuple

from difference_feedback.judges.sentences import first_sentence
from difference_feedback.judges.values.number_words import WORDS

_STATEMENTS = 40  # the last ones are read
_ADVERB = (
    r"therefore|thus|hence|then|indeed|simply|just|clearly|obviously|actually|definitely|certainly|probably|likely|so"
    r"|now|always|exactly|also|given\s+by"
)
_VERB = (
    r"(?:\s+(?:(?:is|are|was)\s+equal\s+to|is|are|was|equals?|becomes|remains"
    rf"|(?:would|should|will|must|has\s+to)(?:\s+(?:{_ADVERB}))?\s+be"
    r"|c[oa]mes?\s+(?:out\s+(?:to\s+be|as)|to(?=\s+\W?\d))|corresponds\s+to|turns?\s+out\s+to\s+be|works\s+out\s+to(?:\s+be)?)(?![\w'])|\s*(?:[:=：→]|->|=>))"
)
_MARK = r"[*_`\"'”’\]]{0,4}"
_AFTER = (
    rf"{_MARK}(?:\s*(?:[:：]|\.\.\.|…)|\s+(?:{_ADVERB})(?![\w'])|\s+(?:the\s+)?(?:letter|option|choice)(?=\s*:?\s*\W{{0,4}}[A-Z]\b))*"
    rf"{_MARK}"
)
_ANSWER = re.compile(
    rf"\b(?:answers?|ans|solution)\b{_MARK}(?:(?:\s+(?:to|of|for|in|I|we|you)\s[^.\n:=]{{1,60}}?)?(?:\s+(?:{_ADVERB}))*"
    rf"{_VERB}{_AFTER}|(?P<heading>[ \t]*(?=\n)|\.(?=\s)))"
    r"|(?:答案[*\s]{0,4}(?:应该|应当|应)?(?:是|为|选择?|：|:)+|[【《\[](?:(?![错误])[^\s【】《》\[\]]){0,4}答案[】》\]](?:是|为|：|:)*)(?:\s*选?项)?"
    r"|(?:故|因此|所以|应|本题|综上(?:所述)?)[,，]?\s?(?:本题|答案|我)?(?:应该?)?(?:选择?|为)(?:选?项)?[：:]?(?=\s*[(（*]{0,3}[A-Z])",
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
    r"(?!\s*(?:\?|,?\s*(?:only\s+)?(?:if|when|unless)\b)|(?:\s\w+)?,?\s(?:and|or)\s+(?i:option\s)?\(?[A-H]\b)"
    r"|(?P<d>[$\\(]{0,3}\d[^\s,;:]{0,30}|\\[^\s,;:]{1,30})\s+is\s+(?:the|our|my)\s+(?:final\s+|correct\s+)?answer\b"
    r"|(?:选项\s?|[，,。\n]|因此|所以|故|^)(?P<g>[A-H])\s?(?:选?项)?是?正确的?(?=[\s，。,.]|$)"
    r"|(?:^|\n)[*_#\s]{0,5}(?i:answer)\s+\(?(?P<e>[A-Z])\)?[*_.]{0,3}(?=\n|$)"
    # As a last sentence: ". answer 5".
    r"|(?:^|[.!?\n])\s{0,3}(?i:(?:the\s|my\s)?(?:final\s)?answer)\s{1,3}(?P<f>[^\s.:]\S{0,30}?)[.*]{0,3}\s{0,3}$"
)
_VALUED = (
    r"(?P<words>[^.!?\n]*?)(?:\s(?:is|are|equals)\s|\s*=\s*|(?<=he|ey)\sha(?:s|ve)\s)(?P<value>[^=\n]{1,60}?)[.!*\s]*$"
)
_CONCLUSION = re.compile(
    rf"(?:^|[.!?]\s+|\n\s*)(?:therefore|thus|hence|so|consequently|in\s+conclusion|finally)\b,?\s{_VALUED}",
    re.IGNORECASE,
)
_SENTENCE = re.compile(_VALUED, re.IGNORECASE)
# "There are 5 apples in the picture." as a conclusion or as the only sentence; 图中有5个苹果。
_COUNTED = re.compile(
    r"(?:^|[.!?\n]\s*(?:therefore|thus|hence|so|in\s+total)\b,?\s+)(?:therefore|thus|hence|so)?,?\s*(?:in\s+total,?\s+)?there\s+(?:is|are)\s+"
    r"(?:a\s+total\s+of\s+|exactly\s+|only\s+)?(?P<value>\*{0,2}(?:\d|[a-z])[^\s]{0,12}(?:\s+[a-z]+){0,3}?)"
    r"(?:\s+(?:(?:visible|shown|present|left)\s+)?(?:in|on)\s+(?:the\s+|this\s+|total\b)(?:(?!\b(?:and|but|while)\b)[^\d.!?,;\n]){0,40})?"
    r"[.!*\s]*$",
    re.IGNORECASE,
)
_CHINESE = re.compile(
    r"(?:(?:^|[。！？\n])\s*(?:因此|所以|故|综上(?:所述)?|答)[,，:：]?\s?|^)"
    r"(?:根据[^。！？\n,，]{0,20}[,，]\s?)?(?P<words>[^。！？\n,，]{0,20}?)(?:是|为|等于|=|有|(?<=答[,，:：]))\s?(?P<value>\d[^。！？\n,，]{0,30})[。！*\s]*$"
)
_CHINESE_DOUBT = re.compile("不|没|非|或|可能|如果|若|设|左右|以上|以下")
_DOUBT = re.compile(
    r"\b(?:not|never|no|or|if|maybe|might|could|may|perhaps|either|options?|wrong|incorrect|says|said|claims?)\b|n't\b",
    re.IGNORECASE,
)
# "Therefore, x = 5, which is option B."
_AS_OPTION = re.compile(
    r",?\s+(?:which\s+(?:is|matches|corresponds\s+to)|corresponding\s+to)\s+(?:the\s+)?(?:answer\s+)?(?:option|choice)"
    r"\s+\(?[A-Z]\)?(?=[.!*\s]*$)",
    re.IGNORECASE,
)
_QUALIFIED = re.compile(
    r"(?:\b(?:correct|right|best|final|my|selected|chosen)\s+|(?:^|\n)[*_#\s]{0,6}|\b(?:I|we)(?:'d|'ll|\s+\w+)?\s+|选项|(?<!不)(?:正确|最佳|合适|恰当)的?)$",
    re.IGNORECASE,
)
_HEADING = re.compile(r"(?:^|\n)[#*_\s]{0,8}(?:(?:the|my|final|correct)\s+)*$", re.IGNORECASE)
# What is said about such an answer is no statement of the response's own.
_OTHERS = re.compile(
    r"\b(?:if|suppose|assume|assuming|whether|unless|wrong|incorrect|false|common|tempting|initial|previous|old|naive|says|said|claims"
    r"|claimed|thinks|thought|believes|wrote|other|another|every|any|each|no|student's|possible|alternative|question\s+and|worst|least|opposite|trap|random|guess|earlier|original|intermediate)"
    r"[^\S\n]+(?:[\w'-]+[^\S\n]+){0,2}$|(?:如果|假如|假设|倘若|(?<!我)(?:说|认为)|错误的?)[^。！？\n,，]{0,6}$",
    re.IGNORECASE,
)
# "I don't think that the answer is 5."
_DENIED = re.compile(
    r"(?:n't|\b(?:not|never|nobody|no\s+one|cannot|refuse|deny|(?<!no\s)doubt|unlikely|wrong\s+to"
    r"|(?:you|one|some|many|people)\s+(?:may|might|could|would)))\b(?:(?!\b(?:but|and|so|because|since)\b)[^.,;:!?\n]){0,30}"
    r"(?:(?:\b(?:think|believe|say|case|true|mean|sure|certain|claim|be)|(?<=doubt)|(?<=unlikely))\s+)(?:that\s+)?(?:(?:the|my|our|a)\s+)?"
    r"(?:[\w-]+\s+){0,2}$",
    re.IGNORECASE,
)
# Letters on the lines after a letter.
_LETTER_LINES = re.compile(r"(?:\s*\n[-*\s(]{0,4}[A-Z][).*]{0,3}[ \t]{0,3}(?=\n|$))+")
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
        if _is_denied(_before(text, match)):
            continue
        line = _LINE.match(text, match.end())
        sentence = first_sentence(line[1]) if line else ""
        more = _LETTER_LINES.match(text, line.end()) if line and re.fullmatch(r"[-(\s]*[A-Z]\)?", sentence) else None
        sentence = f"{sentence} {' '.join(more[0].split())}" if more else sentence
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
    start = max(0, len(text) - 300)
    match = _COUNTED.search(text, start) or _CONCLUSION.search(text, start)
    match = match or (_SENTENCE.match(text) if len(text) < 200 else None) or _CHINESE.search(text, start)
    if (
        not match
        or _DOUBT.search(_AS_OPTION.sub("", match[0]))
        or (match.re is _CHINESE and _CHINESE_DOUBT.search(match[0]))
    ):
        return None
    answer = re.search(r"\banswers?\b", match[0], re.IGNORECASE)
    if answer and _is_denied(match[0][: answer.start()]):
        return None
    sentence = first_sentence(match["value"])
    statement = Statement(match.start(), match.end(), sentence, "conclusion")
    number = re.match(r"[a-z]+", sentence.lower())
    in_words = match.re is _COUNTED and number and number[0] in WORDS
    return statement if in_words or re.match(r"\W{0,4}(?:\d|[A-Z]\b|\\)", sentence) else None


def denials(text: str) -> bool:
    """Whether a text says of an answer that it is another's or none."""
    return any(_is_denied(_before(text, match)) for match in _ANSWER.finditer(text))


def _is_denied(before: str) -> bool:
    return bool(_OTHERS.search(before) or _DENIED.search(before))


def _is_statement(text: str, match: re.Match[str]) -> bool:
    return match["heading"] is None or bool(_HEADING.search(_before(text, match)))


def _before(text: str, match: re.Match[str]) -> str:
    return text[max(0, match.start() - 60) : match.start()]
