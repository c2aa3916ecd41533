"""What a row will probably write next: tokens of a text that it copies with edits, and how many of them to try."""

from collections.abc import Sequence

import numpy as np

_REACH = 32
"""Tokens around the expected place in which a text is searched after an edit."""
_LONGEST_MATCH = 4
_PRIOR = 3.0, 1.0
"""Right and wrong expectations that a batch is taken to have had before its first."""
_OWN_WEIGHT = 2.0
"""Expectations of the batch's mean that are added to a row's own."""
_MEMORY = 0.9
"""What is left of a row's counts after a pass, so that late passes count more than early ones."""
_PAST = 0.5
"""What a row costs in a pass besides its tokens, in tokens: the reading of its keys and values."""
_WIDER = 4.0, 1.0
"""What a pass over several tokens costs more than one over a single token, besides the tokens: itself, and each row."""
_SIZES = np.unique(np.geomspace(1, 2**16, 100, dtype=int)).tolist()
"""Windows to choose from, besides the longest: all small ones, and one in nine of large ones."""
_GAIN = 1.15
"""How much more a window must promise than plain decoding."""


class Copying:
    """Where one row reads its proposals: a place in one of its texts.

    A token that differs is an edit. A substitution is taken for granted at first: the text goes on behind the edited
    place. If that is refused, too, the place is where the last tokens written are found again: near the expected place
    (an insertion, a deletion), or else where three of them stand in any of the texts.
    """

    def __init__(self, texts: Sequence[Sequence[int]]) -> None:
        """`texts`: the draft first; then others that it may take words from, such as a reference."""
        self.texts = [list(text) for text in texts if len(text)]
        self.text = self.place = self.missed = 0
        self.tried = self.right = 0.0  # what was expected next, and was written
        self._places: dict[tuple[int, ...], tuple[int, int]] = {}
        for number, tokens in enumerate(self.texts):
            for end in range(3, len(tokens)):
                self._places.setdefault(tuple(tokens[end - 3 : end]), (number, end))

    @property
    def available(self) -> int:
        """The number of proposals."""
        return len(self.texts[self.text]) - self.place if self.texts else 0

    def ahead(self, most: int) -> list[int]:
        """The next proposals, at most so many."""
        return self.texts[self.text][self.place : self.place + max(most, 0)] if self.texts else []

    def follow(self, written: Sequence[int], accepted: int) -> None:
        """Go on after a pass: `accepted` proposals were written, and one token more, the last of `written`."""
        if not self.texts:
            return
        self.place += accepted
        tokens = self.texts[self.text]
        agrees = self.place < len(tokens) and tokens[self.place] == written[-1]
        # What a pass did not try counts, too: the last token was expected or not.
        self.tried = _MEMORY * self.tried + accepted + (self.place < len(tokens))
        self.right = _MEMORY * self.right + accepted + agrees
        if agrees or accepted:
            self.missed = 0
        if agrees:
            self.place += 1
            return
        self.missed += 1
        self.text, self.place = self._again(written)

    def _again(self, written: Sequence[int]) -> tuple[int, int]:
        tokens, expected, last = self.texts[self.text], self.place + 1, written[-1]
        start = max(0, expected - _REACH - 1)
        around = tokens[start : expected + _REACH]
        behind = [k for k, token in enumerate(around, start + 1) if token == last] if last in around else []
        matches = ((_match(tokens, k, written), -abs(k - expected), k) for k in behind)
        length, _, place = max(matches, default=(0, 0, expected))
        if length >= 2 or (length and self.missed > 1):
            return self.text, place
        return self._places.get(tuple(written[-3:]), (self.text, min(expected, len(tokens))))


def _match(tokens: Sequence[int], end: int, written: Sequence[int]) -> int:
    """How many of the last tokens of `written` stand in front of `end`, at most `_LONGEST_MATCH`."""
    most = min(_LONGEST_MATCH, end, len(written))
    return next((n for n in range(most) if tokens[end - 1 - n] != written[-1 - n]), most)


def window(rows: Sequence[Copying], available: Sequence[int], fixed: float, most: int) -> int:
    """How many tokens to propose in the next pass: as many as give the most written tokens for its cost.

    The rows of a batch share a pass, so they share the window. A pass over `n` tokens of each of `B` rows costs
    `fixed + B * (n + _PAST)`, and `_WIDER` more where `n` is above 1. The rule knows counts alone, so that equal runs
    take equal passes. It holds for the first pass as well, which reads the prompts and costs more by as much anyway.

    Args:
        available: how many proposals each row has.
        fixed: what a pass costs besides its rows and tokens, in tokens; see `speculation.fixed_cost`.
        most: an upper limit.
    """
    most = min(most, max(available, default=0))
    if most <= 0:
        return 0
    tried, right = sum(row.tried for row in rows), sum(row.right for row in rows)
    mean = (right + _PRIOR[0]) / (tried + sum(_PRIOR))
    shares = [(row.right + _OWN_WEIGHT * mean) / (row.tried + _OWN_WEIGHT) for row in rows]
    plain = fixed + len(rows) * (_PAST + 1)  # what a pass over one token of each row costs
    wider = plain + _WIDER[0] + len(rows) * _WIDER[1]
    if sum(1 / (1 - share) for share in shares) / (wider + len(rows)) <= _GAIN * len(rows) / plain:
        return 0  # no window could be long enough
    share = np.array(shares)[:, None]
    sizes = np.append([size for size in _SIZES if size < most], most)
    lengths = np.minimum(sizes, np.array(available)[:, None])
    written = ((1 - share ** (lengths + 1)) / (1 - share)).sum(0)
    rate = written / (wider + len(rows) * sizes)
    best = int(rate.argmax())
    return int(sizes[best]) if rate[best] > _GAIN * len(rows) / plain else 0
