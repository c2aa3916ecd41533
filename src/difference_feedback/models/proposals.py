"""What a row will probably write next: tokens of a text that it copies with edits, and how many of them to try."""

from collections.abc import Sequence

import numpy as np

_REACH = 32
"""Tokens around the expected place in which a text is searched after an edit."""
_LONGEST_MATCH = 4
_PRIOR = 8.0, 1.0
"""Accepted and refused proposals that a batch is taken to have seen before its first: nine of ten are accepted."""
_OWN_WEIGHT = 6.0
"""Proposals of the batch's mean that are added to a row's own."""
_PAST = 0.5
"""What a row costs in a pass besides its tokens, in tokens: the reading of its keys and values."""
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
        self.tried = self.accepted = 0
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

    def follow(self, written: Sequence[int], proposed: int, accepted: int) -> None:
        """Go on after a pass: of `proposed` tokens `accepted` were written, and one more, the last of `written`."""
        if not self.texts:
            return
        self.tried += min(accepted + 1, proposed)
        self.accepted += accepted
        self.place += accepted
        if accepted:
            self.missed = 0
        tokens = self.texts[self.text]
        if self.place < len(tokens) and tokens[self.place] == written[-1]:
            self.place += 1
            return
        self.missed += 1
        self.text, self.place = self._again(written)

    def _again(self, written: Sequence[int]) -> tuple[int, int]:
        tokens, expected = self.texts[self.text], self.place + 1
        around = range(max(1, expected - _REACH), min(len(tokens), expected + _REACH) + 1)
        length, _, place = max(
            ((_match(tokens, k, written), -abs(k - expected), k) for k in around), default=(0, 0, expected)
        )
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
    `fixed + B * (_PAST + n)`. The rule knows counts alone, so that equal runs take equal passes.

    Args:
        available: how many proposals each row has.
        fixed: what a pass costs besides its rows and tokens, in tokens; see `speculation.fixed_cost`.
        most: an upper limit.
    """
    most = min(most, max(available, default=0))
    if most <= 0:
        return 0
    tried, accepted = np.array([row.tried for row in rows], float), np.array([row.accepted for row in rows], float)
    mean = (accepted.sum() + _PRIOR[0]) / (tried.sum() + sum(_PRIOR))
    share = ((accepted + _OWN_WEIGHT * mean) / (tried + _OWN_WEIGHT))[:, None]
    sizes = np.arange(most + 1)
    lengths = np.minimum(sizes, np.array(available)[:, None])
    written = ((1 - share ** (lengths + 1)) / (1 - share)).sum(0)
    rate = written / (fixed + len(rows) * (_PAST + 1 + sizes))
    best = int(rate.argmax())
    return best if rate[best] > _GAIN * rate[0] else 0
