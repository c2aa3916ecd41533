"""The final answer within what is written around it: boxes, tags, dollars, the steps of a worked solution."""

import re
from typing import NamedTuple

from difference_feedback.data.thinking import without_thinking

LONGEST_BARE = 100
"""An accepted text of at most this many characters, on one line, is a final answer as a whole."""
_TAG = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_BEGIN_BOX, _END_BOX = "<|begin_of_box|>", "<|end_of_box|>"
_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,3}(?=\{)|\\boxed\s{0,3}(?=[^\s{\\a-zA-Z])")
_WORD = re.compile(r"[^\s$\\{},;]*[^\s$\\{},;.]")
_BRACE = re.compile(r"\\[\\{}]|[{}]")
_AROUND = (("**", "**"), ("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("`", "`"))
_BETWEEN_BOXES = re.compile(r"[\s$,;&.]{0,20}(?:and|or)?[\s$,;]{0,20}")
_END_OF_SENTENCE = r"(?<!\b[DM]r)(?<!\b[MS]t)(?<!\bMrs)(?=[.!。]*(?:\n|$)|[.!。]\s)"
_PHRASES = (
    re.compile(r"^####[ \t]*(\S[^\n]*)$", re.MULTILINE),
    re.compile(
        r"(?:^\W{0,8}(?:the\s{1,3})?(?:final\s{1,3}|correct\s{1,3})?answer|\bfinal answer)"
        rf"\**\s{{0,3}}(?:is\b|[:：]|would be\b)[\s:：]{{0,5}}(?:\*\*(?=\s)\s{{0,3}})?(\S[^\n]*?){_END_OF_SENTENCE}",
        re.IGNORECASE | re.MULTILINE,
    ),
    re.compile(
        rf"\bthe (?:correct |right )?answer (?:is|would be|must be)\b[\s:：]{{0,5}}(\S[^\n]*?){_END_OF_SENTENCE}",
        re.IGNORECASE,
    ),
)


class _Stated(NamedTuple):
    start: int
    end: int
    text: str


def unwrapped(text: str) -> str:
    r"""An annotated answer without what is around it: `\boxed{3}`, `<answer> 3 </answer>`, `$3$`, `Answer: 3`.

    Of a worked solution its final answer is taken. A text that states none stays as it is.
    """
    stated = _stated(text.strip())
    return _bare(_answer_part(text)) if stated is None else stated


def final_answer_of(text: str) -> str | None:
    """The final answer that an accepted text states, or the whole of a short one; None if it states no answer."""
    stated = _stated(text.strip())
    if stated is not None:
        return stated or None
    text = _answer_part(text)
    return _bare(text) if 0 < len(text) <= LONGEST_BARE and "\n" not in text else None


def boxed(text: str) -> list[str]:
    r"""The contents of every `\boxed{...}` that is closed; a box in a box is one with it."""
    return [box.text for box in _boxes(text)]


def _stated(text: str) -> str | None:
    """The last of the answers that a text states after its thinking; None where it states none."""
    text = _answer_part(text)
    if tags := _TAG.findall(text):
        inner = tags[-1].strip()
        stated = _stated(inner)
        return _bare(inner) if stated is None else stated
    phrases = [_Stated(m.start(), m.end(), m[1]) for pattern in _PHRASES for m in pattern.finditer(text)]
    boxes = _boxes(text)
    last_phrase = max(phrases, key=lambda phrase: phrase.end, default=None)
    if boxes and (last_phrase is None or boxes[-1].end > last_phrase.start):
        group = boxes[-1:]
        for box in boxes[-2::-1]:
            if not _BETWEEN_BOXES.fullmatch(text[box.end : group[0].start]):
                break
            group.insert(0, box)
        return ", ".join(dict.fromkeys(box.text for box in group))
    return _bare(last_phrase.text) if last_phrase else None


def _answer_part(text: str) -> str:
    """What stands after the thinking, or in the last box of GLM's special tokens."""
    start = text.rfind(_BEGIN_BOX)
    if start >= 0:
        return text[start + len(_BEGIN_BOX) :].partition(_END_BOX)[0].strip()
    return without_thinking(text).strip() if "<" in text or "◁" in text else text.strip()


def _bare(text: str) -> str:
    """A text without the stars, dollars and brackets of mathematics that are around the whole of it."""
    text = text.strip()
    for opening, closing in _AROUND:
        inner = text[len(opening) : -len(closing)].strip()
        if inner and text.startswith(opening) and text.endswith(closing) and closing not in inner:
            return _bare(inner)
    return text


def _boxes(text: str) -> list[_Stated]:
    """The closed boxes that stand in no other, in order. One pass over the braces, since texts may be long."""
    if "\\" not in text or not (starts := list(_BOX.finditer(text))):
        return []
    closing, open_braces = {}, []
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            open_braces.append(brace.start())
        elif brace[0] == "}" and open_braces:
            closing[open_braces.pop()] = brace.start()
    boxes: list[_Stated] = []
    for match in starts:
        place = match.end()
        if boxes and place < boxes[-1].end:
            continue
        if text[place] == "{" and place in closing:
            boxes.append(_Stated(match.start(), closing[place] + 1, text[place + 1 : closing[place]].strip()))
        elif text[place] != "{" and (word := _WORD.match(text, place)):
            boxes.append(_Stated(match.start(), word.end(), word[0]))
    return [box for box in boxes if box.text] or boxes
