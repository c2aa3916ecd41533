"""The text of each token of an answer, from which steps are cut."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

TokenTexts = Callable[[Sequence[int]], list[str]]
"""From token ids to the text of each."""
_BROKEN = "\ufffd"  # what bytes become that are no whole character
_LONGEST_BREAK = 16  # tokens after which they will never be one


def token_texts(tokenizer: Any) -> TokenTexts:
    """What each token adds to the text of those before it; joined, the texts are the text of all tokens.

    A token is decoded together with those before it. By itself it may lack the blank that it stands for (SentencePiece
    leaves out the first of a text), or be a part of a character, which then counts to the last of its tokens.

    Neighbours that occur again, as in an answer and its repair, are decoded once: keep what is returned.
    """

    @lru_cache(maxsize=2**16)
    def decode(*ids: int) -> str:
        return tokenizer.decode(list(ids))

    def texts(token_ids: Sequence[int]) -> list[str]:
        ids, parts = list(token_ids), []
        start = whole = shown = 0  # the window's first token; where its text was last whole; how much of it is written
        for end in range(1, len(ids) + 1):
            text = decode(*ids[start:end])
            is_whole = not text.endswith(_BROKEN) or end == len(ids) or end - whole > _LONGEST_BREAK
            size = len(text) if is_whole else len(text.rstrip(_BROKEN))
            parts.append(text[shown:size])
            shown = max(shown, size)
            if is_whole:
                start, whole = whole, end
                shown = len(decode(*ids[start:end]))
        return parts

    return texts
