"""Stands before the page's application, and lets through what the page itself needs. All else is refused.

Gradio has some seventy routes: uploads, files of this machine, a proxy, custom components, an API. These are left:

| route | why |
|---|---|
| `/`, `/theme.css`, `/manifest.json`, `/robots.txt` | the page |
| `/assets/`, `/static/`, `/favicon.ico` | its scripts and pictures, all from Gradio's package |
| `/config`, `/gradio_api/info` | the page's description, for programs that work the page; it has no data and no path |
| `/gradio_api/queue/join`, `/gradio_api/queue/data` | what people do on the page, and the answers to it |
| `/gradio_api/heartbeat/` | ends the state of a page that was closed |
| `/login`, `/logout` | where people log in |

A web site that somebody visits can send requests to this machine, also under a name of its own that it lets point here
(DNS rebinding). So the `Host` must be this machine's, and requests that name another site as their origin are refused.
"""

import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

LARGEST_BODY = 2 * 1024 * 1024
"""Bytes of a request. The longest text that can be saved has 100,000 characters."""
_PAGE = frozenset(("/", "/theme.css", "/manifest.json", "/robots.txt", "/favicon.ico"))
_READ = _PAGE | {"/config", "/gradio_api/info", "/logout"}
_BELOW = ("/assets/", "/static/", "/gradio_api/heartbeat/")
_ANSWERS = "/gradio_api/queue/data"
_WRITE = frozenset(("/gradio_api/queue/join", "/login"))
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/@\[\]]+)(:[0-9]{1,5})?")
_HALF_NAME = re.compile(rb'"session_hash"\s*:\s*"[^"]*\\u[dD][89a-fA-F]')
"""Half of a surrogate pair there would break Gradio's own figures, and so the end of every later event."""
_HEADERS = {
    # Gradio's scripts stand in the page and make functions of texts. But nothing is loaded from or sent to others.
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class RouteGuard:
    """`application` behind the rules above. `names` are those by which it may be called; None stands for any."""

    def __init__(self, application: Application, names: Collection[str] | None) -> None:
        self.application = application
        self.names = names

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self.application(scope, receive, send)
            return
        if scope["type"] != "http":  # the page uses no web sockets
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._refusal(scope)
        if refusal is None and scope["method"] == "POST":
            body = await _body(receive)
            if body is None:
                refusal = _TOO_LARGE
            elif _HALF_NAME.search(body):
                refusal = 400, "The name of the page is no text."
            else:
                receive = _replayed(body, receive)
        if refusal is not None:
            await _refuse(send, *refusal)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_ENCODED]
            await send(message)

        await self.application(scope, receive, send_guarded)

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        """Status and reason for a request that is refused by its head."""
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        hosts, origins = headers.get("host", []), headers.get("origin", [])
        host = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        if host is None or (self.names is not None and host[1] not in self.names):
            return 403, (
                "This page answers to localhost alone. To open it under another name, set the environment variable "
                "DIFFERENCE_FEEDBACK_TOKEN and log in."
            )
        path, method = scope["path"], scope["method"]
        is_read = path in _READ or path == _ANSWERS or (path.startswith(_BELOW) and ".." not in path)
        if not (is_read and method in ("GET", "HEAD")) and not (path in _WRITE and method == "POST"):
            return 404, "There is no such page."
        if any(_site(origin) != hosts[0].lower() for origin in origins) or len(origins) > 1:
            return 403, "The request comes from another site."
        is_api = path in _WRITE or path.startswith("/gradio_api/")
        if is_api and headers.get("sec-fetch-site", ["none"]) not in (["none"], ["same-origin"]):
            return 403, "The request comes from another site."
        lengths = headers.get("content-length", ["0"])
        if len(lengths) > 1 or not lengths[0].isdecimal() or int(lengths[0][:20]) > LARGEST_BODY:
            return _TOO_LARGE
        return None


_TOO_LARGE = 413, f"The request is larger than {LARGEST_BODY:,} bytes. Save a shorter text."
_ENCODED = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]


def _site(origin: str) -> str:
    """The host and port of an origin, as the `Host` of a request to it has them; empty for none."""
    scheme, _, site = origin.lower().partition("://")
    default = {"http": ":80", "https": ":443"}.get(scheme)
    return "" if default is None else site.removesuffix(default)


async def _body(receive: Receive) -> bytes | None:
    """The whole body of a request; None if it is too large."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > LARGEST_BODY:
            return None
        if not message.get("more_body"):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body first."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = reason.encode()
    headers = [*_ENCODED, (b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})
