"""A chat server on loopback that misbehaves to order: each request takes the next step of a script."""

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Step = str | dict[str, Any]


class UnrulyServer(ThreadingHTTPServer):
    """`script` has the steps to come; the last stays for good.

    A text is the answer's content; `{"status": 503, "headers": {...}}` refuses; `{"raw": "..."}` is a body as it is;
    `{"hang": seconds}` says nothing for that long; `{"drip": True}` sends a byte now and then; `{"drop": True}` closes
    the connection during the answer. `{"wire": bytes, "then": "close" | "reset" | "hang"}` is what goes over the wire,
    status line and all; `{"echo": function}` answers with a text made of the request's body and headers.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[Step] = []
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.stopping = threading.Event()
        self.turn = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has hung up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: UnrulyServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.turn:
            server.bodies.append(body)
            server.paths.append(self.path)
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            step = server.script.pop(0) if len(server.script) > 1 else server.script[0]
        if isinstance(step, str):
            self._send(200, completion(step, body.get("n") or 1))
        elif "echo" in step:
            self._send(200, completion(step["echo"](body, self.headers), body.get("n") or 1))
        elif "wire" in step:
            self._wire(step["wire"], step.get("then", "close"))
        elif "hang" in step:
            server.stopping.wait(step["hang"])
        elif "drop" in step:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"id": "chat')
            self.wfile.flush()
            self.connection.close()
        elif "drip" in step:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            while not server.stopping.is_set():
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.05)
        else:
            self._send(
                step.get("status", 200), step.get("raw", '{"error": {"message": "no"}}'), step.get("headers", {})
            )

    def _wire(self, data: bytes, then: str) -> None:
        self.close_connection = True
        try:
            self.connection.sendall(data)
            if then == "hang":
                self.server.stopping.wait(20)
        except OSError:  # the client has seen enough
            return
        if then == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _send(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def completion(content: str, n: int = 1) -> str:
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "usage": usage}
    return json.dumps(body | {"choices": [choice | {"index": i} for i in range(n)]})


@contextmanager
def unruly() -> Iterator[UnrulyServer]:
    server = UnrulyServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
