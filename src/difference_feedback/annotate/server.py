"""A web server in a thread for the page's application."""

import errno
import socket
import threading
import time
from typing import Any

from difference_feedback.errors import ConfigError

PATIENCE = 20.0  # seconds for the server to start


class PageServer:
    """Serves an application at `host` and `port` (0: a free one) until it is closed.

    Raises `ConfigError` when the address cannot be used.
    """

    def __init__(self, application: Any, host: str, port: int) -> None:
        import uvicorn

        listener = _listen(host, port)
        shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, f"[{host}]" if ":" in host else host)
        self.port: int = listener.getsockname()[1]
        self.local_url = f"http://{shown}:{self.port}/"
        config = uvicorn.Config(
            application,
            log_level="critical",  # handlers say what fails; pages that are open at the end are no failure
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,  # pages that are open keep a connection
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + PATIENCE
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise ConfigError(f"the page's server does not start on {self.local_url}: give another --port")
            time.sleep(0.005)

    def block_thread(self) -> None:
        """Wait until Ctrl+C, then close."""
        try:
            while self._thread.is_alive():
                self._thread.join(0.2)
        except KeyboardInterrupt:
            pass
        self.close()

    def close(self, verbose: bool = True) -> None:
        """Stop serving."""
        self._server.should_exit = True
        self._thread.join(5)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ConfigError(f"--host {host} is no address of this machine: leave it out, or give one") from None
    try:
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} is in use: give another --port, or 0 for a free one") from None
        raise ConfigError(f"{host}, port {port}: {error.strerror}; give another --host or --port") from None
