"""Find a response's final answer: the last box, answer tag or phrase, or the whole of a short response."""

import re
from typing import NamedTuple

LONGEST = 200_000  # only the last characters of a response are read
_TAG = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_PHRASE = re.compile(
    r"(?:answer|option|choice)\b[*_ ]{0,4}\s{0,9}(?:\bis\b|\bwould be\b|\bshould be\b|:|=|：)+[*_ ]{0,4}:?"
    r"|(?:答案|选项)\s{0,9}(?:是|为|选|:|：)+",
    re.IGNORECASE,
)
_LINE = re.compile(r"\s*(?:(?:\\\[|\$\$|\*\*)\s*\n\s*)?([^\n]*)")  # the text after a phrase, on its line or on the next
# The last line of GSM8K answers; anywhere else it is a heading.
_HASHES = re.compile(r"(?:^|\n)####[ \t]*([^#\n]+?)\s*$")
_CHOSEN = re.compile(
    r"(?:(?i:option|choice|answer)\s{1,3}\(?([A-J])\)?|\(([A-J])\))[*_]{0,2}\s{1,3}(?i:is)\s{1,3}(?i:the\s)?(?i:correct|right)\b"
)
_REASON = re.compile(r",?\s(?:because|since)\s.*", re.IGNORECASE | re.DOTALL)
_ABOUT = re.compile(r"^(?:(?:approximately|about|around|roughly|nearly)\s|≈|\\approx)\s*", re.IGNORECASE)
_SHORT = 30  # characters: a response of at most this length may be a bare answer
_YES_NO = re.compile(r"\W{0,4}(yes|no)\b", re.IGNORECASE)


class Extracted(NamedTuple):
    """A final answer as written, and how it was found: `box`, `tag`, `hashes`, `phrase`, `bare` or `first word`."""

    text: str
    where: str


def final_answer(response: str, yes_no: bool = False) -> Extracted | None:
    """The last final answer in a response; None when the response states no answer.

    A box takes precedence over a tag, and a tag over a phrase. With `yes_no`, a first word yes or no is an answer too.
    """
    response = response[-LONGEST:]
    boxed = last_boxed(response)
    if boxed is not None:
        return Extracted(boxed, "box")
    tags = _TAG.findall(response)
    if tags:
        return Extracted(tags[-1].strip(), "tag")
    hashes = _HASHES.search(response)
    if hashes and not _PHRASE.search(hashes[1]):
        return Extracted(hashes[1], "hashes")
    lines = [_LINE.match(response, phrase.end()) for phrase in _PHRASE.finditer(response)]
    stated = [text for text in (_first_sentence(line[1]) for line in lines if line) if text]
    stated = stated or [named or bracketed for named, bracketed in _CHOSEN.findall(response)]
    if stated:
        return Extracted(stated[-1], "phrase")
    if 0 < len(response.strip()) <= _SHORT:
        return Extracted(response.strip(), "bare")
    start = _YES_NO.match(response) if yes_no else None
    return Extracted(start[1], "first word") if start else None


def last_boxed(text: str) -> str | None:
    r"""Contents of the last `\boxed{...}`, with balanced braces; None when there is no box or it is not closed."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for position in range(start + 6, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start + 7 : position].strip()
    return None


def _first_sentence(text: str) -> str:
    """The first sentence of the text after a phrase, without an "about" before it or a "because" after it."""
    text = _ABOUT.sub("", _REASON.sub("", text.strip()))
    return re.split(r"(?<=\S)[.。](?=\s|$|\*)", text)[0].strip().strip("*").strip()
