"""Find a response's final answer: the last box, answer tag, `####` line or phrase, or the whole of a short response."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from difference_feedback.judges.sentences import first_sentence, is_withdrawn, restated
from difference_feedback.judges.thinking import without_thinking

LONGEST = 200_000  # only the last characters of a response are read
_STATEMENTS = 40  # the last ones are read
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?=\{)|\\boxed\s+(?=[^\s{])|\\boxed(?=\d)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_UNBRACED = re.compile(r"\\[A-Za-z]+(?:\s*\{[^{}\n]{0,200}\})*|[^\s$\\{}]+")
_BOXES = 8  # the last ones are read
_LONGEST_BOX = 4_000  # characters
_BETWEEN_BOXES = re.compile(r"[\s$,;&.]*(?:and|or|\\text\s*\{\s*(?:and|or)\s*\})?[\s$,;]*")
_TAG = re.compile(r"<answer>(.*?)(?:</answer>|(?=<answer>)|$)", re.IGNORECASE | re.DOTALL)
_HASHES = re.compile(r"(?:^|\n)####[ \t]*([^#\n]+?)\s*$")
_ADVERBS = (
    r"(?:\s+(?:therefore|thus|hence|then|indeed|simply|just|clearly|obviously|actually|definitely|certainly|probably|likely|so|now|"
    r"always|exactly|also))*"
)
_VERB = (
    r"(?:\s+(?:is|are|was|equals?|becomes|remains|would\s+be|should\s+be|will\s+be|must\s+be|has\s+to\s+be|comes\s+out\s+(?:to\s+be|as)"
    r"|turns\s+out\s+to\s+be|works\s+out\s+to(?:\s+be)?|came\s+out\s+as)(?![\w'])|\s*[:=：])"
)
_AFTER_VERB = (
    r"(?:\s*[:：]|\s+(?:therefore|thus|hence|then|indeed|simply|just|clearly|obviously|actually|definitely|certainly|probably|likely|given\s+by)"
    r"(?![\w'])|\s+(?:the\s+)?(?:letter|option|choice)(?=\s*:?\s*[\W\s]{0,4}[A-Z]\b))*"
)
_MARK = r"[*_`\"'”’\]]{0,4}"
_PHRASE = re.compile(
    rf"(?P<before>(?:\b[\w'-]+\s+){{0,2}})\b(?:answers?|ans|solution)\b{_MARK}"
    rf"(?:\s+(?:to|of|for|in)\s[^.\n:=]{{1,60}}?)?{_ADVERBS}{_VERB}{_MARK}{_AFTER_VERB}{_MARK}"
    rf"|(?:^|\n)[#*_\s]{{0,8}}(?:(?:the|my)\s+)?(?:final\s+)?answer{_MARK}[ \t]*(?=\n)|\bAns\.(?=\s)"
    r"|答案[*\s]{0,4}(?:应该|应当|应)?(?:是|为|选择?|：|:)+"
    r"|(?:故|因此|所以|应)(?:本题|答案)?(?:选择?|为)[：:]?(?=\s*[(（*]{0,3}[A-Z])",
    re.IGNORECASE,
)
_CHOICE = re.compile(
    r"\b(?P<before>(?:the\s+)?(?:correct|right|best|final|my|only\s+correct))\s+(?:option|choice|selection|pick|response|result|letter|one)\b[*_]{0,4}"
    rf"{_VERB}{_AFTER_VERB}|(?:^|\n)[*_#\s]{{0,6}}(?:option|choice|选项)[*_]{{0,2}}\s*[:：][*_]{{0,2}}"
    r"|\b(?:I|we)(?:'d|'ll|\s+would|\s+will|\s+therefore|\s+should)?\s+(?:choose|chose|pick|select|go\s+with)\s+"
    r"(?:the\s+)?(?:option|answer|choice)?"
    r"|选项\s{0,9}(?:是|为|选|:|：)+",
    re.IGNORECASE,
)
_CHOSEN = re.compile(
    r"(?:(?i:option|choice|answer)\s{1,3}\(?([A-Z])\)?|\(([A-Z])\))[*_]{0,2}\s{1,3}(?i:is|must be)\s{1,3}"
    r"(?i:the\s)?(?i:correct|right|best|answer)\b"
)
_NO_STATEMENT = re.compile(
    r"\b(?:if|suppose|assume|assuming|whether|unless|wrong|incorrect|false|common|tempting|initial|previous|old|naive|other|another|"
    r"every|any|each|no|student's|possible|alternative|question\s+and)\s+(?:[\w'-]+\s+){0,2}$",
    re.IGNORECASE,
)
_LINE = re.compile(r"[ \t*_]*(?:(?:\\\[|\$\$|\*\*|```\w*)?[ \t]*\n\s*(?:(?:\\\[|\$\$|```\w*)\s*)?)?([^\n]*)")
_SHORT = 30  # characters: a response of at most this length may be a bare answer
_LABELLED = re.compile(r"\W{0,3}[A-Z]\W{0,3}[.:)]\W{0,3}\s*\S[^\n]{0,300}")
_LETTER_LINE = re.compile(r"\W{0,4}[A-Z]\W{0,4}")
_NUMBER_LINE = re.compile(r"[*$]{0,2}-?\d[\d.,/]{0,20}[*$.]{0,3}")
_YES_NO = re.compile(r"\W{0,4}(?:yes|no|true|false)\b", re.IGNORECASE)
_VALUE = re.compile(r"[\d\\$]|^\W{0,3}[A-Za-z]\W{0,3}(?:$|\s)|^\W{0,3}(?:yes|no|true|false)\b", re.IGNORECASE)


class Extracted(NamedTuple):
    """A final answer as written, and how it was found.

    `where` is `box`, `tag`, `hashes`, `phrase`, `bare`, `first word`, or `withdrawn` for a statement that the response
    takes back without another.
    """

    text: str
    where: str


class _Statement(NamedTuple):
    start: int
    end: int
    text: str
    where: str


def final_answer(response: str, yes_no: bool = False, choice: bool = False) -> Extracted | None:
    """The last final answer that a response states after its thinking; None when it states none.

    With `yes_no`, a first word yes or no is an answer too; with `choice`, a response or a first line such as `(B) 12`.
    """
    response = without_thinking(response[-LONGEST:])
    last = _last_statement(response)
    if last is not None:
        if is_withdrawn(response[last.end :]):
            text = restated(response[last.end :])
            return Extracted(text, "phrase") if text else Extracted(last.text, "withdrawn")
        return Extracted(last.text, last.where)
    return _bare(response.strip(), yes_no, choice)


def last_boxed(text: str) -> str | None:
    r"""Contents of the last `\boxed{...}`, with balanced braces; None when there is no box or it is not closed."""
    boxes = _boxes(text)
    return boxes[-1].text if boxes else None


def _last_statement(text: str) -> _Statement | None:
    boxes = _joined_boxes(text)
    formal = [*boxes, *_tags(text)]
    hashes = _HASHES.search(text)
    if hashes and not _PHRASE.search(hashes[1]):
        formal.append(_Statement(hashes.start(), hashes.end(), hashes[1], "hashes"))
    last = max(formal, key=lambda statement: statement.end, default=None)
    phrases = [phrase for phrase in _phrases(text, last.end if last else 0) if phrase.text]
    if last is None:
        return phrases[-1] if phrases else None
    if phrases and (_VALUE.search(phrases[-1].text) or not last.text):
        return phrases[-1]
    return last


def _tags(text: str) -> Iterator[_Statement]:
    """The last answer tag. A box in it is its answer."""
    start = text.lower().rfind("<answer>")
    match = _TAG.match(text, start) if start >= 0 else None
    if match:
        content = match[1].strip()
        box = last_boxed(content)
        yield _Statement(match.start(), match.end(), content if box is None else box, "tag")


def _boxes(text: str) -> list[_Statement]:
    """The last boxes, in order. A box in a box is one."""
    boxes: list[_Statement] = []
    for match in list(_BOX.finditer(text))[-_BOXES:]:
        start = match.end()
        if boxes and start < boxes[-1].end:
            continue
        end = _closing(text, start) if text[start] == "{" else None
        if text[start] == "{" and end is not None:
            content = text[start + 1 : end - 1].strip()
            inner = re.fullmatch(r"\$?\\boxed\s*\{(.*)\}\$?", content, re.DOTALL)
            boxes.append(_Statement(match.start(), end, inner[1].strip() if inner else content, "box"))
        elif text[start] != "{":
            word = _UNBRACED.match(text, start)
            if word:
                boxes.append(_Statement(match.start(), word.end(), word[0].rstrip(".,;"), "box"))
    return boxes


def _closing(text: str, start: int) -> int | None:
    """The place after the brace that closes the one at `start`."""
    depth = 0
    for brace in _BRACE.finditer(text, start, start + _LONGEST_BOX):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.end()
    return None


def _joined_boxes(text: str) -> list[_Statement]:
    """The last box, with those just before it (`\\boxed{5}\\boxed{6}`, `\\boxed{x} and \\boxed{y}`) as one list."""
    boxes = _boxes(text)
    if not boxes:
        return []
    group = [boxes[-1]]
    for box in boxes[-2::-1]:
        if not _BETWEEN_BOXES.fullmatch(text[box.end : group[0].start]) or "\n\n" in text[box.end : group[0].start]:
            break
        group.insert(0, box)
    texts = list(dict.fromkeys(box.text for box in group))
    return [_Statement(group[0].start, group[-1].end, ", ".join(texts), "box")]


def _phrases(text: str, start: int) -> list[_Statement]:
    """The statements in words after a place, in order. Conditions, wrong answers and negations are none."""
    statements = []
    matches = [*_PHRASE.finditer(text, start), *_CHOICE.finditer(text, start)]
    matches.sort(key=lambda match: match.start())
    for match in matches[-_STATEMENTS:]:
        words = match.groupdict()["before"] or ""
        if _NO_STATEMENT.search(text[max(0, match.start() - 40) : match.start()] + words):
            continue
        line = _LINE.match(text, match.end())
        sentence = first_sentence(line[1]) if line else ""
        if sentence and not re.match(r"(?:not|never|neither|n't|\\neg|¬)(?![\w'])", sentence, re.IGNORECASE):
            statements.append(_Statement(match.start(), match.end() + len(sentence), sentence, "phrase"))
    if statements:
        return statements
    for match in _CHOSEN.finditer(text, start):
        statements.append(_Statement(match.start(), match.end(), match[1] or match[2], "phrase"))
    return statements


def _bare(text: str, yes_no: bool, choice: bool) -> Extracted | None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) == 1 and len(text) <= _SHORT:
        return Extracted(re.sub(r"(?<=[\w)])!$", "", text), "bare")
    if choice:
        for line in (lines[:1], lines[-1:]):
            if line and (_LABELLED.fullmatch(line[0]) or _LETTER_LINE.fullmatch(line[0])):
                return Extracted(line[0], "bare")
    if len(lines) > 1 and re.search(r"\n\s*\n[^\n]*$", text) and _NUMBER_LINE.fullmatch(lines[-1]):
        return Extracted(lines[-1], "bare")
    if 0 < len(text) <= _SHORT:
        return Extracted(text, "bare")
    if yes_no and _YES_NO.match(text):
        return Extracted(first_sentence(text.splitlines()[0]), "first word")
    return None
