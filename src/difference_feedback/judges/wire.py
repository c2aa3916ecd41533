"""One request to an OpenAI-compatible server, and what comes back, whatever that is: a chat completion, or a reason.

Nothing of the environment is sent but what a proxy needs: `HTTPS_PROXY` and its like are followed (not to this
machine), and `SSL_CERT_FILE`. No redirect is followed, since it would take the key elsewhere.
"""

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from difference_feedback.runs.json_values import is_unicode
from difference_feedback.runs.servers import is_loopback

if TYPE_CHECKING:  # it comes with the extra `endpoint`
    import httpx

MOST_BYTES = 16 * 2**20
"""Largest answer that is read. A thousand tokens with their ids take some 20 kB."""
LONGEST_TOKEN = 128  # characters; a server that sends more than this for each token has ignored `max_tokens`
_TRANSIENT = (408, 409, 425, 429)
_LARGEST_ID = 2**31


class NoAnswer(Exception):
    """A request without a usable answer, and why.

    `again`: it may go well the next time, after `wait` seconds where the server has named them. `status` is HTTP's.
    """

    def __init__(self, reason: str, again: bool = True, wait: float = 0.0, status: int | None = None) -> None:
        super().__init__(reason)
        self.again, self.wait, self.status = again, wait, status


@dataclass(frozen=True)
class Choices:
    """The answers of a completion, each with its token ids and whether it was cut off at the token limit."""

    texts: list[str | None]
    """None: what stands there is no text."""
    token_ids: list[list[int] | None]
    """None where there are none, or they are no ids."""
    truncated: list[bool] = field(default_factory=list)
    tokens: int = 0
    """Of prompt and answers, as counted by the server."""


def http_client(url: str, concurrency: int) -> "httpx.AsyncClient":
    """A client for one server. This machine is reached without a proxy."""
    import httpx

    direct = is_loopback(url)
    return httpx.AsyncClient(
        trust_env=not direct,
        verify=not (direct and url.startswith("http:")),  # loading the certificates takes a while
        follow_redirects=False,
        timeout=None,  # the caller limits the time of a whole request
        limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
    )


async def post(client: "httpx.AsyncClient", url: str, key: str, body: Mapping[str, Any]) -> Any:
    """The JSON value that the server answers. Raises `NoAnswer`, and nothing else that a server can bring about."""
    try:
        headers = {
            "Authorization": key if key.startswith(("Basic ", "Bearer ")) else f"Bearer {key}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # a small body could unpack to any size
            "User-Agent": "difference-feedback",
        }
        content = await asyncio.to_thread(_as_json, body)  # images make it large
        async with client.stream("POST", url, headers=headers, content=content) as response:
            data = await _read(response)
    except (NoAnswer, TimeoutError):
        raise
    except Exception as error:  # of httpx and of what it stands on: sockets, TLS, HTTP
        raise NoAnswer(str(error) or type(error).__name__) from None
    if response.is_redirect:
        raise NoAnswer(
            f"HTTP {response.status_code}: the server redirects to {response.headers.get('location', '')!r}, which is "
            "not followed: give that url, if you trust it",
            again=False,
        )
    values = _parsed(data)
    if not response.is_success:
        status = response.status_code
        again = status >= 500 or status in _TRANSIENT
        said = message_of(values) or data.decode("utf-8", "replace") or response.reason_phrase
        raise NoAnswer(f"HTTP {status}: {said}", again, _seconds(response.headers.get("retry-after")), status)
    if values is None:
        raise NoAnswer("the server's answer is not JSON")
    return values


def _as_json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body).encode()


async def _read(response: "httpx.Response") -> bytes:
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise NoAnswer("the server's answer is compressed, though it was asked not to be")
    data = bytearray()
    async for part in response.aiter_raw():
        data += part
        if len(data) > MOST_BYTES:
            raise NoAnswer(f"the server's answer has more than {MOST_BYTES // 2**20} MiB")
    return bytes(data)


def _parsed(data: bytes) -> Any:
    """The JSON value; None if the data is no JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def message_of(values: Any) -> str:
    """What an error body says; empty where that cannot be told."""
    if not isinstance(values, dict):
        return ""
    error = values.get("error") or values.get("detail") or values.get("message")
    if isinstance(error, dict):
        error = error.get("message") or error
    return error if isinstance(error, str) else json.dumps(error) if error else ""


def choices_of(values: Any, n: int, max_tokens: int) -> Choices:
    """The answers of a chat completion, at most `n`. Raises `NoAnswer` for anything else.

    A choice of another form fails alone. What is longer than `max_tokens` tokens can be is no text.
    """
    choices = values.get("choices") if isinstance(values, dict) else None
    if not isinstance(choices, list) or not choices:
        what = message_of(values) or "it has no `choices`"
        raise NoAnswer(f"the server's answer is not a chat completion ({what})")
    choices = [choice if isinstance(choice, dict) else {} for choice in choices[:n]]
    texts = [_text(choice, LONGEST_TOKEN * max_tokens) for choice in choices]
    usage = values.get("usage")
    counted = usage.get("total_tokens") if isinstance(usage, dict) else None
    return Choices(
        texts,
        [_ids(choice.get("token_ids"), max_tokens) for choice in choices],
        [choice.get("finish_reason") == "length" for choice in choices],
        counted if type(counted) is int and 0 <= counted < _LARGEST_ID else 0,
    )


def _text(choice: dict[str, Any], longest: int) -> str | None:
    message = choice.get("message")
    if not isinstance(message, dict):
        return None
    content = message.get("content", "")
    if content is None:
        return ""
    if isinstance(content, list):  # of parts, all of them texts
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        if len(parts) < len(content) or not all(isinstance(part, str) for part in parts):
            return None
        content = "".join(map(str, parts))
    return content if isinstance(content, str) and len(content) <= longest and is_unicode(content) else None


def _ids(value: Any, longest: int) -> list[int] | None:
    if not isinstance(value, list) or not 0 < len(value) <= longest + 1:
        return None
    return value if all(type(i) is int and 0 <= i < _LARGEST_ID for i in value) else None


def _seconds(value: str | None) -> float:
    """`Retry-After` in seconds; 0 if it is missing or a date."""
    try:
        seconds = float(value or 0)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
