"""Where the text of each token ends, within the text of all of them: the lengths of the decoded prefixes.

Decoding every prefix takes a time that grows with the square of the length. The usual decoders of the tokenizers
library work token by token, so one pass knows what each prefix decodes to. The text that the pass yields is compared
with the tokenizer's own. Where they differ, and for other decoders, every prefix is decoded.
"""

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import Any

_BROKEN = "\ufffd"  # what bytes become that are no whole character
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_FALLBACK = re.compile(r"(Replace )*ByteFallback Fuse (Strip )?")
Growth = Iterator[tuple[str, str]]
"""For each token: what becomes certain with it, and what a text that ended here would have after all that is."""


def token_ends(ids: Sequence[int], text: str, tokenizer: Any) -> list[int | None]:
    """The start of each token in `text`, and the end of the last, `(T + 1,)`; None inside a character of several.

    An entry is the length of a decoded prefix, if `text` begins with it. `text` is what `decode` makes of all `ids`,
    and none of them is a special token.
    """
    growth = _growth(ids, tokenizer)
    if growth is None:
        return ends_by_prefix(ids, text, tokenizer)
    ends: list[int | None] = [0]
    parts: list[str] = []
    size, rest = 0, ""
    for certain, rest in growth:
        parts.append(certain)
        size += len(certain)
        ends.append(size + len(rest) if text.startswith(rest, size) else None)
    return ends if "".join(parts) + rest == text else ends_by_prefix(ids, text, tokenizer)


def ends_by_prefix(ids: Sequence[int], text: str, tokenizer: Any) -> list[int | None]:
    """`token_ends` for any tokenizer, in a time that grows with the square of the length."""
    prefixes = (decode(tokenizer, ids[:i]) for i in range(len(ids) + 1))
    return [len(prefix) if text.startswith(prefix) else None for prefix in prefixes]


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of `ids` without special tokens, with its blanks as they are."""
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _growth(ids: Sequence[int], tokenizer: Any) -> Growth | None:
    """None where the decoder may look at several tokens together, or the tokenizer has a way of its own to decode."""
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    usual = PreTrainedTokenizerBase.decode, PreTrainedTokenizerFast._decode
    if tuple(getattr(getattr(tokenizer, name, None), "__func__", None) for name in ("decode", "_decode")) != usual:
        return None
    backend = tokenizer.backend_tokenizer
    tokens = [backend.id_to_token(i) or "" for i in ids]
    if "" in tokens:  # an id without a token
        return None
    steps = _steps(backend.decoder)
    kinds = "".join(f"{step['type']} " for step in steps)
    if kinds == "ByteLevel ":
        return _of_bytes(tokens)
    if kinds in ("", "Metaspace ", "WordPiece "):
        return _one_by_one(tokens, backend.decoder.decode if steps else " ".join)
    patterns = [step["pattern"] for step in steps if step["type"] == "Replace"]
    if _FALLBACK.fullmatch(kinds) and all("String" in pattern for pattern in patterns) and not steps[-1].get("stop"):
        for pattern, step in zip(patterns, steps, strict=False):  # they come first
            tokens = [token.replace(pattern["String"], step["content"]) for token in tokens]
        growth = _with_bytes(tokens)
        return _stripped(growth, steps[-1]["content"], steps[-1]["start"]) if "Strip" in kinds else growth
    return None


def _steps(decoder: Any) -> list[dict[str, Any]]:
    """What the decoder does, as its file has it; nothing where the tokens are joined by blanks."""
    if decoder is None:
        return []
    state = json.loads(decoder.__getstate__())
    return state["decoders"] if state["type"] == "Sequence" else [state]


def _of_bytes(tokens: list[str]) -> Growth:
    """Every token is a sequence of bytes, or a text that has other signs than those that bytes are written with."""
    signs, decoder = _signs(), getincrementaldecoder("utf-8")("replace")
    for token in tokens:
        try:
            data = bytes([signs[sign] for sign in token])
        except KeyError:
            data = token.encode()
        yield decoder.decode(data), decoder.getstate()[0].decode("utf-8", "replace")


@cache
def _signs() -> dict[str, int]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {sign: byte for byte, sign in bytes_to_unicode().items()}


def _one_by_one(tokens: list[str], join: Callable[[list[str]], str]) -> Growth:
    """The first token has a text of its own, and each other the same text wherever it stands."""
    texts: dict[str, str] = {}
    before = "a"
    start = len(join([before]))
    for i, token in enumerate(tokens):
        if i and token not in texts:
            texts[token] = join([before, token])[start:]
        yield texts[token] if i else join([token]), ""


def _with_bytes(tokens: list[str]) -> Growth:
    """Neighbouring tokens of single bytes become characters, or as many broken ones if they are no UTF-8 together."""
    before = ""
    for is_byte, group in groupby(tokens, lambda token: _BYTE.fullmatch(token) is not None):
        if not is_byte:
            for token in group:
                yield before + token, ""
                before = ""
            continue
        data = bytearray()
        for token in group:
            data.append(int(token[3:5], 16))
            before = _characters(data)
            yield "", before


def _characters(data: bytearray) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _BROKEN * len(data)


def _stripped(growth: Growth, blank: str, count: int) -> Growth:
    """Without the first `count` blanks of the whole text, as far as it has them."""
    for certain, rest in growth:
        blanks = min(count, len(certain) - len(certain.lstrip(blank)))
        count = 0 if blanks < len(certain) else count - blanks
        certain = certain[blanks:]
        yield certain, rest[min(count, len(rest) - len(rest.lstrip(blank))) :]
