"""What one JSON text may hold: keys once each, whole characters, and no endless depth."""

import json
from collections.abc import Iterable, Mapping
from typing import Any


def parse_line(line: bytes) -> dict[str, Any] | str | None:
    """The object that a line holds; what is wrong with the line, as a text; or None for an empty line."""
    try:
        text = line.decode().strip()
        values = _decode(text) if text else None
    except UnicodeDecodeError as error:
        return f"byte {error.start} is no UTF-8; save the file as UTF-8"
    except (ValueError, RecursionError) as error:
        return f"no valid JSON ({error}); write one object a line"
    if text.count("[") + text.count("{") > DEEPEST and depth_of(values) > DEEPEST:
        return TOO_DEEP
    if isinstance(values, dict):
        return values
    return f"a JSON {type(values).__name__}; write an object, {{...}}" if text else None


DEEPEST = 50
"""Lists and objects within each other, a row's own included. Deeper ones end what calls itself for each level."""
TOO_DEEP = f"lists and objects stand more than {DEEPEST} deep in it: make it flatter"


def depth_of(value: Any) -> int:
    """How many lists and objects of a JSON value stand within each other."""
    deepest, parts = 0, [(value, 1)]
    while parts:
        part, depth = parts.pop()
        if isinstance(part, dict | list):
            deepest = max(deepest, depth)
            parts += [(item, depth + 1) for item in (part.values() if isinstance(part, dict) else part)]
    return deepest


def unique_keys(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these keys and values, for `json`. Raises `ValueError` where a key occurs twice."""
    pairs = list(pairs)
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:80]!r} occurs twice: keep one")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=unique_keys)  # made once, not for every line


def _decode(text: str) -> Any:
    if text.startswith("\ufeff"):  # `loads` has an error of its own for it
        return json.loads(text)
    return _DECODER.decode(text)


HALF_PAIR = "a character is half of a surrogate pair: give the whole character"


def is_unicode(text: str) -> bool:
    """Whether a text has no half of a surrogate pair, nor a byte that is no UTF-8."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def field_with_half_pair(values: Mapping[str, Any]) -> str | None:
    """The first field with half of a surrogate pair, such as `"\\ud83d"`; None without such a field."""
    for name, value in values.items():
        try:
            text = json.dumps(value, ensure_ascii=False, default=str)
        except (TypeError, ValueError, RecursionError):  # no text of JSON
            continue
        if not is_unicode(name + text):
            return name
    return None
