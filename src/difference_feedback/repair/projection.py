"""From a repair that came back as text to the policy's tokens: what did not change keeps its tokens as sampled.

Draft and repair are aligned on words. A run of words that both have keeps the draft's own token ids, cut at token
boundaries; only what lies between such runs is tokenised. Re-tokenising everything would move token boundaries in
places where nothing was repaired, and mark them.
"""

import re
from collections.abc import Sequence
from typing import Any

from difference_feedback.method.alignment import align

_WORDS = re.compile(r"\s*\S+|\s+$")  # a word with the space before it; together they are the text


def project(draft_ids: Sequence[int], repair: str, tokenizer: Any) -> list[int]:
    """Token ids of `repair` in the policy's vocabulary, without an end of sequence.

    Args:
        draft_ids: the wrong answer as sampled; special tokens in it are never kept.
        repair: the repaired answer as text.
        tokenizer: the policy's.

    They decode to `repair` wherever the tokenizer can write it at all: where the pieces would not, all of it is
    tokenised anew.
    """
    kept = [int(i) for i in draft_ids if int(i) not in tokenizer.all_special_ids]
    draft = _decode(tokenizer, kept)
    boundaries = _boundaries(kept, draft, tokenizer)
    ids: list[int] = []
    done = 0  # characters of `repair` that `ids` stand for
    for start, place, length in _common_runs(draft, repair):
        inside = [
            i for i, position in enumerate(boundaries) if position is not None and start <= position <= start + length
        ]
        if len(inside) < 2:
            continue
        first, last = inside[0], inside[-1]
        begin, end = boundaries[first], boundaries[last]
        assert begin is not None
        assert end is not None
        ids += _encode(tokenizer, repair[done : place + begin - start]) + kept[first:last]
        done = place + end - start
    ids += _encode(tokenizer, repair[done:])
    return ids if _decode(tokenizer, ids) == repair else _encode(tokenizer, repair)


def _boundaries(ids: list[int], text: str, tokenizer: Any) -> list[int | None]:
    """Where each token begins in `text`, and where the last one ends; None within a character of several tokens."""
    found: list[int | None] = []
    for i in range(len(ids) + 1):
        prefix = _decode(tokenizer, ids[:i])
        found.append(len(prefix) if text.startswith(prefix) else None)
    return found


def _common_runs(draft: str, repair: str) -> list[tuple[int, int, int]]:
    """`(start in draft, start in repair, length)` in characters, of the runs of words that are in both."""
    words, new = _WORDS.findall(draft), _WORDS.findall(repair)
    ids = {word: i for i, word in enumerate(dict.fromkeys(words + new))}
    alignment = align([ids[word] for word in words], [ids[word] for word in new], anchor_gaps=False)
    runs: list[tuple[int, int, int]] = []
    i = j = start = place = 0
    while i < len(words) or j < len(new):
        if i < len(words) and alignment.source_mask[i]:
            start += len(words[i])
            i += 1
        elif j < len(new) and alignment.target_mask[j]:
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


def _encode(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False) if text else []


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
