"""Cut the thinking of a reasoning model off: what stands after it is the answer."""

import re

_NAMES = ("think", "thinking", "thought", "thoughts", "reason", "reasoning", "reflection", "scratchpad", "analysis")
_OPENINGS = ("<{}>", "<seed:{}>", "◁{}▷", "<|begin_of_{}|>", "<|{}|>", "[{}]")
_CLOSINGS = ("</{}>", "</seed:{}>", "◁/{}▷", "<|end_of_{}|>", "<|/{}|>", "[/{}]")
OPENING = (*(form.format(name) for form in _OPENINGS for name in _NAMES), "<|channel|>analysis<|message|>")
CLOSING = (*(form.format(name) for form in _CLOSINGS for name in _NAMES), "<|channel|>final<|message|>")
LONGEST = 200_000  # only the last characters of a response are read
_SPECIAL = re.compile(r"<\|(?!channel)[a-z_]{2,30}\|>|</?s>|<(?:eos|bos|pad|end_of_turn)>", re.IGNORECASE)


def without_thinking(response: str) -> str:
    """What a response says after its thinking, or before one that never ends; without a model's special tokens."""
    response = response[-LONGEST:]
    if not any(sign in response for sign in "<◁["):
        return response
    lower = response.lower()
    if len(lower) != len(response):  # a few signs have longer lower-case forms
        lower = response
    end = max(lower.rfind(tag) + len(tag) if tag in lower else 0 for tag in CLOSING)
    starts = [start for tag in OPENING if (start := lower.find(tag, end)) >= 0]
    return _SPECIAL.sub(" ", response[end : min(starts, default=len(response))])
