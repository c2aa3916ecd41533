"""A server on the loopback that speaks the few calls of the Hugging Face hub by which a folder is uploaded."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Hub:
    """What was uploaded: repository -> `private`, path -> content. `refuses` answers every call with this status."""

    def __init__(self) -> None:
        self.private: dict[str, bool] = {}
        self.files: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        self.refuses = 0
        self.url = ""


@contextmanager
def hub() -> Iterator[Hub]:
    """The server, for as long as the context lasts."""
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else self._chunks()
            state.tokens.add(self.headers.get("Authorization"))
            if state.refuses:
                self._answer({"error": "no write access"}, state.refuses)
            elif self.path == "/api/repos/create":
                values = json.loads(body)
                name = f"{values['organization']}/{values['name']}" if values.get("organization") else values["name"]
                state.private[name] = values["visibility"] == "private"
                self._answer({"url": f"{state.url}/{name}"})
            elif "/preupload/" in self.path:
                files = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in json.loads(body)["files"]
                ]
                self._answer({"files": files})
            elif "/commit/" in self.path:
                for line in body.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        state.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                name = self.path.split("/api/models/")[1].split("/commit/")[0]
                self._answer({"commitUrl": f"{state.url}/{name}/commit/c0ffee", "commitOid": "c0ffee", "success": True})
            elif self.path == "/api/validate-yaml":
                self._answer({"errors": [], "warnings": []})
            else:
                self._answer({"error": self.path}, 404)

        def _chunks(self) -> bytes:
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _answer(self, values: Any, status: int = 200) -> None:
            data = json.dumps(values).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
