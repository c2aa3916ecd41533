"""Where a stated answer ends, and whether what follows takes it back."""

import re

_REASON = re.compile(
    r",?\s(?:because|since|as (?:it|the|they|there|we)|given that|due to)\s.*|[;；]\s.*", re.IGNORECASE | re.DOTALL
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:Mt|St|Dr|Mr|Mrs|Ms|Prof|Jr|Sr|No|Rs|vs|approx|sq|cu|Ave|Ft|Gen|Col|Rev|Hon|[A-Z](?:\.[A-Z])+|[A-Z])$"
)
_END = re.compile(r"[.!?](?=\s|$|[*\"”])|[。！？]|(?<=\d)\.(?=[A-Z])")
_MARKER = re.compile(
    r"(?:^|[.!?。\n,;-])\W*(?:wait|no|hmm+|oops|hold on|scratch that|correction|sorry|on second thought"
    r"|let me (?:re-?check|reconsider|correct)|I made (?:a|an) (?:\w+ )?(?:mistake|error)"
    r"|that(?:'s| is| was) (?:wrong|incorrect|not right|not correct|a mistake))\b(?=\W)",
    re.IGNORECASE,
)
_RESTATED = re.compile(
    r"(?:\b(?:it|that|this|there|value|result|number|total)(?:'s|\s+(?:is|are|should\s+be|must\s+be|would\s+be))"
    r"|\bactually(?:\s+it's)?|\bmake\s+that|(?:\bno|\bwait|correction|sorry|oops)\W{1,3})\s*(?=[\\$(*-]{0,4}(?:\d|[A-Z]\b|\\frac|\\sqrt))",
    re.IGNORECASE,
)


def first_sentence(text: str) -> str:
    """The first sentence of a line, without a "because" and the stars around it."""
    text = _REASON.sub("", text.strip())
    for end in _END.finditer(text):
        before = text[: end.start()]
        if end[0] == "." and end.end() < len(text) and _ABBREVIATION.search(before):
            following = text[end.end() :].strip()
            if len(before.split()[-1].strip("(")) > 1 or not re.match(
                r"(?:[A-Z][a-z]* [a-z]|The|It|This|So|We)\b", following
            ):
                continue
        text = before
        break
    return text.strip().strip("*`_").strip()


def is_withdrawn(text: str) -> bool:
    """Whether the text after a statement takes it back: "Wait, no", "that is wrong"."""
    return bool(_MARKER.search(text[:2000]))


def restated(text: str) -> str:
    """The answer that such a text states instead; `""` without one."""
    matches = list(_RESTATED.finditer(text[:2000]))
    return first_sentence(text[matches[-1].end() :].split("\n")[0]) if matches else ""
