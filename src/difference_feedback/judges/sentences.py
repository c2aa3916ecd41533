"""Where a stated answer ends, and whether what follows takes it back."""

import re

_REASON = re.compile(
    r",?\s(?:because|since|as (?:it|the|they|there|we)|given that|due to)\s.*"
    r"|[;；]\s(?!\W{0,3}(?:[A-Z]|\d+)\W*(?:$|[;；])).*",
    re.IGNORECASE | re.DOTALL,
)
_LONGEST = 1_000  # characters of a line
_AFTER = 2_000  # characters after a statement
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:Mt|St|Dr|Mr|Mrs|Ms|Prof|Jr|Sr|No|Rs|vs|approx|sq|cu|Ave|Ft|Gen|Col|Rev|Hon|i\.e|e\.g|[A-Z](?:\.[A-Z])+|[A-Z])$"
)
_END = re.compile(r"[.!?](?=\s|$|[*\"”])|[。！？]|(?<=\d)\.(?=[A-Z])")
_MARKER = re.compile(
    r"(?:^|(?<!\n[A-Z])[.!?。\n,;-])\W{0,12}(?:wait|no(?=[,.!;:-]|\s+(?:wait|that|it|this)\b)|hmm+|oops|hold on"
    r"|scratch that|correction"
    r"|sorry|on second thought"
    r"|let me (?:re-?check|reconsider|correct)|I made (?:a|an) (?:\w+ )?(?:mistake|error)"
    r"|(?:but )?(?:that|this|it)(?:'s| is| was) (?:wrong|incorrect|not right|not correct|a mistake"
    r"|impossible(?! to))|不对|等等|等一下|错了)\b(?=\W)",
    re.IGNORECASE,
)
_ACTUALLY = re.compile(r"(?:^|[.!?\n])\W{0,12}actually\b", re.IGNORECASE)
_RESTATED = re.compile(
    r"(?:\b(?:it|that|this|there|value|result|number|total)(?:'s|\s+(?:is|are|should\s+be|must\s+be|would\s+be))"
    r"|(?:应该|应当|答案|结果)是|\bactually(?:\s+it's)?|\bmake\s+that|(?:\bno|\bwait|correction|sorry|oops)\W{1,3})\s*(?=[\\$(*-]{0,4}(?:\d|[A-Z]\b|\\frac|\\sqrt))",
    re.IGNORECASE,
)


def first_sentence(text: str) -> str:
    """The first sentence of a line, without a "because" and the stars around it."""
    text = _REASON.sub("", text.strip()[:_LONGEST])
    for end in _END.finditer(text):
        before = text[: end.start()]
        if before.endswith("..") and text[end.end() :].strip()[:1].islower():
            continue  # "5... or maybe 6"
        if end[0] == "." and end.end() < len(text) and _ABBREVIATION.search(before):
            following = text[end.end() :].strip()
            if len(before.split()[-1].strip("(")) > 1 or not re.match(
                r"(?:[A-Z][a-z]* [a-z]|The|It|This|So|We)\b", following
            ):
                continue
        text = before
        break
    return text.strip().strip("*`_").strip()


def takes_back(text: str) -> bool:
    """Whether a text takes back what was said before it: "wait, no", "that is wrong", "actually"."""
    return bool(_MARKER.search(text) or _ACTUALLY.search(text))


def correction(text: str) -> str | None:
    """What the text after a statement says instead of it; `""` where it takes it back without another, None if not."""
    text = text[:_AFTER]
    withdrawn = _MARKER.search(text)
    if not withdrawn and not _ACTUALLY.search(text):
        return None
    matches = list(_RESTATED.finditer(text))
    stated = first_sentence(text[matches[-1].end() :].split("\n")[0]) if matches else ""
    return stated if stated or withdrawn else None
