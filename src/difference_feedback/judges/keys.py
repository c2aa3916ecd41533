"""Secrets of an endpoint, which a server may echo: they are struck out where its text comes in."""

import base64
import html
import os
import re
import urllib.request
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from difference_feedback.runs.sections import Endpoint

STRUCK = "[struck out]"
_SHORTEST = 6  # characters; what is shorter stands in ordinary text, too
_NAMES = re.compile(r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD)$", re.IGNORECASE)
_LONG = 16  # characters; other variables of the environment are secrets from this length on
_BLANK = r"(?:[\s\u200b-\u200d\ufeff]|\\{1,4}(?:[nrt]|u200[b-d]|ufeff))?"  # between the signs of a long one


class Secrets:
    """The key of an endpoint, names and passwords in urls of proxies, and long keys and tokens of the environment."""

    def __init__(self, endpoint: Endpoint) -> None:
        secrets = {secret.strip() for secret in _secrets(endpoint)}
        ordered = sorted((secret for secret in secrets if len(secret) >= _SHORTEST), key=len, reverse=True)
        forms = [_spelled(secret) for secret in ordered] + [form for secret in ordered for form in _coded(secret)]
        self._pattern = re.compile("|".join(forms), re.IGNORECASE) if forms else None

    def struck(self, text: str) -> str:
        """`text` without them, in their common encodings."""
        return text if self._pattern is None else self._pattern.sub(STRUCK, text)


def _secrets(endpoint: Endpoint) -> Iterator[str]:
    if endpoint.api_key_env:
        key = os.environ.get(endpoint.api_key_env, "")
        yield from (key, key.partition(" ")[2])
        if key.startswith("Basic "):  # a name and a password
            yield from _of_basic(key.partition(" ")[2])
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


def _of_basic(coded: str) -> Iterator[str]:
    try:
        name_and_password = base64.b64decode(coded).decode()
    except ValueError:
        return
    yield from (name_and_password, name_and_password.partition(":")[2])


def _spelled(secret: str) -> str:
    """A regular expression of it: each sign as it is, or escaped as in JSON, Python, a URL or HTML."""
    return _BLANK.join(map(_sign, secret)) if len(secret) >= _LONG else "".join(map(_sign, secret))


def _sign(sign: str) -> str:
    code, data, in_html = ord(sign), sign.encode("utf-8", "surrogatepass"), html.escape(sign)
    escapes = (  # a sign that two of them match makes a near miss take exponential time
        rf"\\{{0,4}}{re.escape(sign)}",
        rf"\\{{1,4}}u\{{?0{{0,6}}{code:x}\}}?",
        *([rf"\\{{1,4}}x{code:02x}"] if code < 256 else []),
        "".join(f"%{byte:02x}" for byte in data),
        rf"&#0{{0,6}}(?:{code}|x0{{0,6}}{code:x});",
        *([re.escape(in_html)] if in_html != sign else []),
    )
    return f"(?:{'|'.join(escapes)})"


def _coded(secret: str) -> Iterator[str]:
    data = secret.encode("utf-8", "surrogateescape")
    codes = [data.hex()]
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):  # within a longer text it begins at any of three places of a group
            coded = encode(b"\0" * before + data).decode().rstrip("=")
            first, last = (8 * before + 5) // 6, (8 * (before + len(data))) // 6
            codes.append(coded[first:last])  # the signs that depend on the secret alone
    yield from (re.escape(code) for code in codes if len(code) >= _SHORTEST)
