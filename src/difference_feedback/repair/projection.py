"""Turn a repair that is text into the policy's tokens: unchanged parts keep the draft's tokens as sampled.

Draft and repair are aligned on words. A run of words that both have keeps the draft's token ids, cut at token
boundaries. Only the text between such runs is tokenised. Tokenising everything again would move token boundaries where
nothing was repaired, and those tokens would be marked.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from difference_feedback.method.alignment import align
from difference_feedback.method.repairs import Repair
from difference_feedback.models.end_tokens import special_ids
from difference_feedback.models.outside_text import encode_text, special_steering_tokens
from difference_feedback.models.token_ends import decode, token_ends

_WORDS = re.compile(r"\s*\S+|\s+$")  # a word with the space before it; together they are the text


def project(draft_ids: Sequence[int], repair: str, tokenizer: Any) -> list[int]:
    """Token ids of `repair` in the policy's vocabulary, without an end of sequence.

    Args:
        draft_ids: the wrong answer as sampled; special tokens in it are never kept.
        repair: the repaired answer as text.
        tokenizer: the policy's.

    If the joined pieces do not decode to `repair`, the whole repair is tokenised instead.
    """
    special, keep = special_ids(tokenizer), frozenset(map(int, draft_ids))
    kept = [int(i) for i in draft_ids if int(i) not in special]
    draft = decode(tokenizer, kept)
    boundaries = _Boundaries(token_ends(kept, draft, tokenizer))
    ids: list[int] = []
    done = 0  # number of characters of `repair` that `ids` cover
    for start, place, length in _common_runs(draft, repair):
        (first, begin), (last, end) = boundaries.within(start, start + length)
        if first >= last:
            continue
        ids += encode_text(tokenizer, repair[done : place + begin - start], keep) + kept[first:last]
        done = place + end - start
    ids += encode_text(tokenizer, repair[done:], keep)
    return ids if decode(tokenizer, ids) == repair else encode_text(tokenizer, repair, keep)


def projected_repair(draft_ids: Sequence[int], text: str, tokenizer: Any, end: list[int]) -> Repair:
    """A repair that is text, in the tokens of the policy's `tokenizer`, and `end` after them.

    One that spells a special token cannot be used: nobody writes one in an answer, but to end it early.
    """
    ids = project(draft_ids, begin_as(draft_ids, text, tokenizer), tokenizer)
    fault = "steering_token" if any(token in text for token in special_steering_tokens(tokenizer)) else None
    return Repair(ids + end, tokenizer.decode(ids, skip_special_tokens=True), projected=True, fault=fault)


def begin_as(draft_ids: Sequence[int], repair: str, tokenizer: Any) -> str:
    """`repair` with the white space that the draft begins with: SmolVLM's template, for one, has answers after a blank.

    Models on servers and people write none, and the first token would be marked for it.
    """
    draft = tokenizer.decode(list(draft_ids), skip_special_tokens=True)
    return draft[: len(draft) - len(draft.lstrip())] + repair.lstrip()


class _Boundaries:
    """The places in the draft where tokens start and end."""

    def __init__(self, ends: Sequence[int | None]) -> None:
        known = [(i, end) for i, end in enumerate(ends) if end is not None]
        self._tokens, self._places = [i for i, _ in known], [end for _, end in known]
        self._ordered = all(a <= b for a, b in pairwise(self._places))  # not where broken characters are many

    def within(self, start: int, stop: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The first boundary and the last one from `start` to `stop`, as the number of tokens before it and its place.

        Two equal ones where no boundary lies between them.
        """
        if self._ordered:
            first, last = bisect_left(self._places, start), bisect_right(self._places, stop) - 1
        else:
            inside = [k for k, place in enumerate(self._places) if start <= place <= stop] or [0]
            first, last = inside[0], inside[-1]
        first = min(first, max(last, 0))
        return (self._tokens[first], self._places[first]), (self._tokens[last], self._places[last])


def _common_runs(draft: str, repair: str) -> list[tuple[int, int, int]]:
    """The runs of words that both texts have, as `(start in draft, start in repair, length)` in characters."""
    words, new = _WORDS.findall(draft), _WORDS.findall(repair)
    ids = {word: i for i, word in enumerate(dict.fromkeys(words + new))}
    alignment = align([ids[word] for word in words], [ids[word] for word in new], anchor_gaps=False)
    removed, added = alignment.source_mask.tolist(), alignment.target_mask.tolist()
    runs: list[tuple[int, int, int]] = []
    i = j = start = place = 0
    while i < len(words) or j < len(new):
        if i < len(words) and removed[i]:
            start += len(words[i])
            i += 1
        elif j < len(new) and added[j]:
            place += len(new[j])
            j += 1
        else:
            length = len(words[i])
            if runs and runs[-1][0] + runs[-1][2] == start and runs[-1][1] + runs[-1][2] == place:
                runs[-1] = (*runs[-1][:2], runs[-1][2] + length)
            else:
                runs.append((start, place, length))
            start, place, i, j = start + length, place + length, i + 1, j + 1
    return runs
