"""Find a response's final answer: the last box, answer tag, `####` line or phrase, or the whole of a short response."""

import re
import string
from collections.abc import Sequence
from typing import NamedTuple

from difference_feedback.data.thinking import LONGEST, without_thinking
from difference_feedback.judges.sentences import correction, first_sentence, takes_back
from difference_feedback.judges.statements import Statement, conclusion, denials, statements

_TAIL = 8_000  # characters at the end of an answer that are searched
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?=\{)|\\boxed\s+(?=[^\s{])|\\boxed(?=\d)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_UNBRACED = re.compile(r"\\[A-Za-z]+(?:\s*\{[^{}\n]{0,200}\})*|[^\s$\\{}]+")
_BOXES = 8  # the last ones are read
_LONGEST_BOX = 4_000  # characters
_BETWEEN = re.compile(
    r"[\s$,;&./|(*-]*(?:(?:and|or)(?:\s+(?:also|even|maybe|perhaps|possibly|else|alternatively))?|\(?\d[.)]|\\text\s*\{\s*(?:and|or)\s*\})?[\s$,;]*"
)
_TAG = re.compile(r"<answer>(.*?)(?:</answer>|(?=<answer>)|$)", re.IGNORECASE | re.DOTALL)
_TAG_START = re.compile("<answer>", re.IGNORECASE)
_HASHES = re.compile(r"(?:^|\n)####[ \t]*([^#\n]+)$")
_SHORT = 30  # characters: a response of at most this length may be a bare answer
_LABELLED = re.compile(
    r"\W{0,3}([A-Z])\W{0,3}[.:)]\W{0,3}\s*\S[^\n]{0,300}|\W{0,4}([A-Z])\W{0,4}(?:\s(?:because|since)\s[^\n]{0,300})?"
)
_EDGES = string.punctuation + string.whitespace
# "I think it is 5": what stands before the answer in a short response.
_LEAD = re.compile(
    r"(?:(?:so|thus|hence|therefore),?\s+)?(?:(?:probably|likely|clearly|definitely)\s+)?"
    r"(?:(?:I\s+(?:think|believe|guess|(?:would\s+)?say)|I'd\s+say)\s+(?:that\s+)?)?"
    r"(?:(?:it|this|that|there)(?:'s|\s+(?:is|are|must\s+be|should\s+be|would\s+be))\s+)?(?:(?:only|just)\s+)?"
    r"(?!no\b|not\b)(?=\S)",
    re.IGNORECASE,
)
_NUMBER_LINE = re.compile(r"[*$]{0,2}-?\d[\d.,/]{0,20}[*$.]{0,3}")
_EXPLAINED = re.compile(
    r"[^\n]{1,30}\n\s*\n\W{0,6}(?:explanation|reason(?:ing)?|justification|because)\b", re.IGNORECASE
)
_YES_NO = re.compile(r"\W{0,4}(?:yes|no|true|false)\b", re.IGNORECASE)
# "No. That is incorrect." takes nothing back.
_DENIAL = re.compile(
    r"\W{0,4}(?:no|false)\W{1,4}(?:that|this|it)(?:'s| is| was) (?:wrong|incorrect|not (?:right|correct)|impossible)\b",
    re.IGNORECASE,
)


class Extracted(NamedTuple):
    """A final answer as written, and how it was found.

    `where` is `box`, `tag`, `hashes`, `phrase`, `bare`, `first word`, `conclusion`, or `withdrawn` for a statement that
    the response takes back without another.
    """

    text: str
    where: str


def final_answer(response: str, yes_no: bool = False, choice: bool = False) -> Extracted | None:
    """The last final answer that a response states after its thinking; None when it states none.

    With `yes_no`, a first word yes or no is an answer too; with `choice`, a first or last line such as `(B) 12`.
    """
    answer = without_thinking(response).strip()
    searched = answer[-_TAIL:]
    last = _last_statement(searched) or conclusion(searched)
    if last is None:
        searched, last = answer, _bare(answer, yes_no, choice)
    if last is None:
        return None
    corrected = correction(searched[last.end :])
    if corrected is None:
        return Extracted(last.text, last.where)
    return Extracted(corrected, "phrase") if corrected else Extracted(last.text, "withdrawn")


def last_boxed(text: str) -> str | None:
    r"""Contents of the last `\boxed{...}`, with balanced braces; None when there is no box or it is not closed."""
    boxes = _boxes(text)
    return boxes[-1].text if boxes else None


def _last_statement(text: str) -> Statement | None:
    """The last box, tag or `####` line; a statement in words where there is none, or after a "wait, no"."""
    formal = [*_joined(text, _boxes(text)), *_joined(text, _tags(text))]
    hashes = _HASHES.search(text)
    if hashes and not statements(hashes[1]):
        formal.append(Statement(hashes.start(), hashes.end(), hashes[1].strip(), "hashes"))
    last = max(formal, key=lambda statement: statement.end, default=None)
    phrases = statements(text, last.end if last else 0)
    if phrases and (last is None or not last.text or takes_back(text[last.end : phrases[-1].start + 1])):
        return phrases[-1]
    return last


def _tags(text: str) -> list[Statement]:
    """The last answer tags, in order. A box in one is its answer."""
    starts = [match.start() for match in _TAG_START.finditer(text)][-_BOXES:]
    tags = []
    for match in filter(None, (_TAG.match(text, start) for start in starts)):
        content = match[1].strip()
        box = last_boxed(content)
        tags.append(Statement(match.start(), match.end(), content if box is None else box, "tag"))
    return tags


def _boxes(text: str) -> list[Statement]:
    """The last boxes, in order. A box in a box is one."""
    boxes: list[Statement] = []
    for match in list(_BOX.finditer(text))[-_BOXES:]:
        start = match.end()
        if boxes and start < boxes[-1].end:
            continue
        end = _closing(text, start) if text[start] == "{" else None
        if text[start] == "{" and end is not None:
            content = text[start + 1 : end - 1].strip()
            inner = re.fullmatch(r"\$?\\boxed\s*\{(.*)\}\$?", content, re.DOTALL)
            boxes.append(Statement(match.start(), end, inner[1].strip() if inner else content, "box"))
        elif text[start] != "{":
            word = _UNBRACED.match(text, start)
            if word:
                boxes.append(Statement(match.start(), word.end(), word[0].rstrip(".,;"), "box"))
    return boxes


def _closing(text: str, start: int) -> int | None:
    """The place after the brace that closes the one at `start`."""
    depth = 0
    for brace in _BRACE.finditer(text, start, start + _LONGEST_BOX):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.end()
    return None


def _joined(text: str, boxes: Sequence[Statement]) -> list[Statement]:
    r"""The last box, with those just before it (`\boxed{5}\boxed{6}`, `\boxed{x} and \boxed{y}`) as one list."""
    if not boxes:
        return []
    group = [boxes[-1]]
    for box in boxes[-2::-1]:
        between = text[box.end : group[0].start]
        if not group[-1].text or not _BETWEEN.fullmatch(between) or "\n\n" in between:
            break
        group.insert(0, box)
    texts = list(dict.fromkeys(box.text for box in group))
    return [Statement(group[0].start, group[-1].end, ", ".join(texts), boxes[-1].where)]


def _bare(text: str, yes_no: bool, choice: bool) -> Statement | None:
    """A short response, or a line of a longer one that can only be its answer."""
    first, last = text.partition("\n")[0].strip(), text.rpartition("\n")[2].strip()
    if len(text) <= _SHORT and denials(text):
        return None
    if len(text) <= _SHORT and "\n" not in text:
        text = re.sub(r"(?<=[\w)])!+$", "", text)
        return _whole(text[lead.end() :] if (lead := _LEAD.match(text)) else text) if text else None
    for line, end in ((first, len(first)), (last, len(text))) if choice else ():
        if _LABELLED.fullmatch(line) and not _is_of_a_list(text, line):
            return Statement(0, end, line, "bare")
    before = text[: -len(last)].rstrip().rpartition("\n")[2].strip() if last else ""
    listed = _NUMBER_LINE.fullmatch(before) is not None
    if re.search(r"\n\s*\n[^\n]*$", text[-100:]) and _NUMBER_LINE.fullmatch(last) and not listed:
        return _whole(last)
    if len(text) <= _SHORT:
        return _whole(text)
    if _EXPLAINED.match(text) and _NUMBER_LINE.fullmatch(first):
        return Statement(0, len(first), first, "bare")
    if yes_no and _YES_NO.match(text):
        sentence = first_sentence(first)
        end = text.find(sentence) + len(sentence)
        denial = _DENIAL.match(text)
        return Statement(0, max(end, denial.end() if denial else 0), sentence, "first word")
    return None


def _is_of_a_list(text: str, line: str) -> bool:
    """Whether lines with other labels make a labelled first or last line a part of a list of the options.

    A line that stands in the text a second time is chosen from the list, unless the one beside it has another label.
    """
    if len(text) > _TAIL:
        text = f"{text[: _TAIL // 2]}\n{text[-_TAIL // 2 :]}"
    lines = [bare for part in text.split("\n") if (bare := part.strip(_EDGES))]
    line = line.strip(_EDGES)
    own = _LABELLED.fullmatch(line)
    kind = 1 if own and own[1] else 2  # with a text, alone
    labelled = [match for match in map(_LABELLED.fullmatch, lines) if match and match[kind]]
    if sum(match[0].startswith(line) for match in labelled) > 1:
        beside = lines[1] if lines[0] == line else lines[-2]
        labelled = [match for match in labelled if match[0] in (line, beside)]
    return len({match[kind] for match in labelled}) > 1


def _whole(text: str) -> Statement:
    """A statement that nothing follows."""
    return Statement(0, LONGEST, text, "bare")
