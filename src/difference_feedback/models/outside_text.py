"""From a text of others to token ids: what it spells out never becomes a token that steers the model.

Others are servers, files of data, people who repair. `<|im_end|>`, `<image>`, `</s>` and `[INST]` are words there.
"""

import re
from functools import lru_cache
from typing import Any

from difference_feedback.models.end_tokens import number_of_tokens, special_ids

_MARK = re.compile(r"\s*[<\[|｜◁].+[>\]|｜▷]\s*", re.DOTALL)  # what steering tokens look like that are not special ones
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # a byte of a character that is no token of its own


def encode_text(tokenizer: Any, text: str, keep: frozenset[int] = frozenset()) -> list[int]:
    """The token ids of `text`, without a beginning or an end of sequence, and without steering tokens.

    Special tokens are none of its tokens. Nor are added tokens that look like marks and that a tokenizer does not call
    special (`<tool_call>`, `<think>`), but for those in `keep`: ids that the policy itself has written nearby.
    """
    if not text:
        return []
    steering = _steering_ids(tokenizer, number_of_tokens(tokenizer))
    if steering <= keep:
        return list(tokenizer.encode(text, add_special_tokens=False))

    def steers(i: int) -> bool:
        return i in steering and i not in keep

    ids = _split(tokenizer, text)
    if any(map(steers, ids)):  # no option of tokenizers covers these: cut behind the first sign of each
        tokens = [token for token, i in steering_tokens(tokenizer).items() if steers(i)]
        places = [match.start() + 1 for match in re.finditer("|".join(map(re.escape, tokens)), text)]
        bounds = zip([0, *places], [*places, len(text)], strict=True)
        ids = [i for start, end in bounds for i in _split(tokenizer, text[start:end])]
    if any(map(steers, ids)):  # a normaliser has made one of other signs
        ids = [i for sign in text for i in _split(tokenizer, sign) if not steers(i)]
    return ids


def steering_tokens(tokenizer: Any) -> dict[str, int]:
    """Text -> id of the special tokens, and of the added tokens that look like marks.

    The token of what is unknown, and those of single bytes, stand for ordinary text.
    """
    return _steering_tokens(tokenizer, number_of_tokens(tokenizer))


def special_steering_tokens(tokenizer: Any) -> dict[str, int]:
    """Those that the tokenizer itself calls special: no answer has one inside."""
    special = special_ids(tokenizer)
    return {token: i for token, i in steering_tokens(tokenizer).items() if i in special}


@lru_cache(maxsize=8)
def _steering_ids(tokenizer: Any, size: int) -> frozenset[int]:
    return frozenset(_steering_tokens(tokenizer, size).values())


@lru_cache(maxsize=8)
def _steering_tokens(tokenizer: Any, size: int) -> dict[str, int]:
    added = getattr(tokenizer, "added_tokens_decoder", {})
    tokens = {str(token): i for i, token in added.items() if token.special or _MARK.fullmatch(str(token))}
    named = getattr(tokenizer, "all_special_tokens", []), getattr(tokenizer, "all_special_ids", [])
    tokens |= dict(zip(*named, strict=True))
    ordinary = {"", getattr(tokenizer, "unk_token", None)}
    return {token: i for token, i in tokens.items() if token not in ordinary and not _BYTE.fullmatch(token)}


def _split(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))
