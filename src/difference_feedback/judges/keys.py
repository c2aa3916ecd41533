"""Secrets of an endpoint, which a server may echo: they are struck out where its text comes in."""

import base64
import html
import json
import os
import re
import urllib.request
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote, urlsplit

from difference_feedback.runs.sections import Endpoint

STRUCK = "[struck out]"
_SHORTEST = 6  # characters; what is shorter stands in ordinary text, too
_NAMES = re.compile(r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD)$", re.IGNORECASE)
_LONG = 16  # characters; other variables of the environment are secrets from this length on


class Secrets:
    """The key of an endpoint, names and passwords in urls of proxies, and long keys and tokens of the environment."""

    def __init__(self, endpoint: Endpoint) -> None:
        forms = {form for secret in _secrets(endpoint) for form in _forms(secret) if len(form) >= _SHORTEST}
        ordered = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered)), re.IGNORECASE) if ordered else None

    def struck(self, text: str) -> str:
        """`text` without them, in their common encodings."""
        return text if self._pattern is None else self._pattern.sub(STRUCK, text)


def _secrets(endpoint: Endpoint) -> Iterator[str]:
    if endpoint.api_key_env:
        key = os.environ.get(endpoint.api_key_env, "")
        yield from (key, key.partition(" ")[2])
    for url in (endpoint.url, *urllib.request.getproxies().values()):
        yield from _of_url(url)
    yield from (value for name, value in os.environ.items() if _NAMES.search(name) and len(value) >= _LONG)


def _of_url(url: str) -> Iterator[str]:
    try:
        userinfo = urlsplit(url).netloc.rpartition("@")[0]
    except ValueError:
        return
    if userinfo:
        user, _, password = userinfo.partition(":")
        yield from (userinfo, unquote(userinfo), password, unquote(password), *([] if password else [user]))


def _forms(secret: str) -> Iterator[str]:
    secret = secret.strip()
    if len(secret) < _SHORTEST:
        return
    data = secret.encode("utf-8", "surrogateescape")
    yield from (secret, quote(secret, safe="", errors="replace"), quote_plus(secret, errors="replace"))
    yield from (json.dumps(secret)[1:-1], html.escape(secret), data.hex())
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):  # within a longer text it begins at any of three places of a group
            coded = encode(b"\0" * before + data).decode().rstrip("=")
            first, last = (8 * before + 5) // 6, (8 * (before + len(data))) // 6
            yield coded[first:last]  # the signs that depend on the secret alone
