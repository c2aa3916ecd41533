"""What chat models write around a repair: tags, a code fence, "Here is the corrected draft:", what they have changed.

The repair alone was asked for. With its wrapping it is graded right, its wrapping counts as edits, and the policy
learns to write it. Wrapping that cannot be meant as a part of the answer is taken off; a repair with other signs of it
is refused. What the draft has, too, is no wrapping.
"""

import re
from collections.abc import Sequence

_REPAIR = r"(?:repair|correct|revis|fix|updat|amend|edit|draft)\w*"
_INTRODUCTION = re.compile(
    rf"\W{{0,4}}(?:(?:sure|certainly|of course|okay|ok|absolutely|understood)\b[^\n:]{{0,60}})?"
    rf"(?:(?:here(?:'s|’s| is| are)|below is|this is|the following is)\b[^\n:]{{0,80}}\b{_REPAIR}\b[^\n:]{{0,60}}:"
    rf"|(?:the |my )?{_REPAIR}(?: (?:draft|answer|response|version|solution|text))?:)\W*?(?=\s)",
    re.IGNORECASE,
)
_OPENING = re.compile(
    r"\W{0,4}(?:sure|certainly|of course|absolutely|here(?:'s|’s| is| are) (?:the|my|a)|below is)\b", re.IGNORECASE
)
_REMARK = re.compile(
    rf"\W{{0,4}}(?:i(?:'ve|’ve| have)? (?:only )?(?:chang|correct|fix|repair|revis|replac)\w+|(?:list of |summary of )?"
    rf"(?:the )?(?:changes?|corrections?|edits?)(?: made)?\W{{0,3}}:|explanation\W{{0,3}}:"
    rf"|note\W{{0,3}}:.*\b{_REPAIR})",
    re.IGNORECASE,
)
_ELEMENT = re.compile(r"<(\w[\w-]*)>(.*)</\1>", re.DOTALL)
_FENCE = re.compile(r"(`{3,}|~{3,})[^\n`]*\n(.*?)\n?\1", re.DOTALL)
_QUOTES = {'"': '"', "“": "”", "«": "»", "„": "“"}


def unwrapped(text: str, draft: str, markers: Sequence[str] = ()) -> str | None:
    """The repair within `text`; None where it is wrapped in a way that cannot be told from an answer.

    `markers` are those of the repair prompt: the draft was shown without them, so no answer has them.
    """
    before, tags = None, [marker for marker in markers if re.fullmatch(r"</?\w+>", marker)]
    while text != before:
        before = text
        text = _once(text.strip(), draft.strip(), tags)
    signs = [bool(_OPENING.match(text)) and not _OPENING.match(draft.lstrip())]
    signs += [text.startswith(fence) and not draft.lstrip().startswith(fence) for fence in ("```", "~~~")]
    signs += [tag in text for tag in tags]
    return None if any(signs) else text


def _once(text: str, draft: str, tags: Sequence[str]) -> str:
    """`text` without one layer of wrapping."""
    _, end, rest = text.rpartition("</think>")
    if end and "</think>" not in draft and rest.strip():
        return rest
    for tag in tags:
        inside = re.fullmatch(rf".*?{tag}(.*)</{tag[1:]}.*", text, re.DOTALL) if tag[1] != "/" else None
        if inside and tag not in inside[1] and text.count(tag) == 1 and "reference" not in tag:
            return inside[1]
        if text.count(tag) == 1 and (text.startswith(tag) or text.endswith(tag)) and "reference" not in tag:
            return text.removeprefix(tag).removesuffix(tag)
    element = _ELEMENT.fullmatch(text)
    if element and not any(f"<{element[1]}>" in other for other in (draft, element[2], *tags)):
        return element[2]
    if (fence := _FENCE.fullmatch(text)) and not draft.startswith(fence[1]):
        return fence[2]
    if (introduction := _INTRODUCTION.match(text)) and not draft.casefold().startswith(introduction[0].casefold()[:20]):
        return text[introduction.end() :]
    paragraphs = re.split(r"\n\s*\n", text)
    if len(paragraphs) > 1 and _REMARK.match(paragraphs[-1]) and not _REMARK.search(draft):
        return text[: text.rindex(paragraphs[-1])]
    lines = text.splitlines()
    if all(line.startswith(">") for line in lines if line) and not draft.startswith(">"):
        return "\n".join(line.removeprefix(">").removeprefix(" ") for line in lines)
    if len(text) > 2 and _QUOTES.get(text[0]) == text[-1] and not (draft[:1] == text[0] or text[-1] in text[1:-1]):
        return text[1:-1]
    return text
