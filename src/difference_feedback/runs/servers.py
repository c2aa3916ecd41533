"""Servers that a recipe names: whether one can be asked at all, and whether someone listens there."""

import os
import socket
import threading
import urllib.error
import urllib.request
from urllib.parse import SplitResult, urlsplit

from difference_feedback.errors import ConfigError
from difference_feedback.runs.packages import require
from difference_feedback.runs.sections import Endpoint

PROBE_SECONDS = 1.0


def check_endpoint(endpoint: Endpoint, key: str = "endpoint") -> None:
    """Raise `ConfigError` where a server cannot be asked even if it runs: the url, the package or the key is missing.

    `key` is what the recipe calls the endpoint.
    """
    if _parts(endpoint.url) is None:
        raise ConfigError(f"{key}.url is {endpoint.url!r}: give a base URL such as http://127.0.0.1:8000/v1")
    require("openai", f"{key}.url: {endpoint.url}")
    if endpoint.cache:
        require("diskcache", f"{key}.cache")
    if endpoint.api_key_env is not None and not os.environ.get(endpoint.api_key_env):
        raise ConfigError(
            f"{key}.api_key_env names the environment variable {endpoint.api_key_env}, which is not set: set it, or "
            "leave the field out for a server without keys."
        )


def check_server(endpoint: Endpoint, key: str) -> None:
    """`check_endpoint`, and `ConfigError` where nobody answers.

    Without a proxy that is a connection to the server's port. Through a proxy it is a request without a key; any answer
    but the proxy's own "no server there" counts, and so does a late one.
    """
    check_endpoint(endpoint, key)
    parts = _parts(endpoint.url)
    assert parts is not None
    host, port = str(parts.hostname), parts.port or {"http": 80, "https": 443}[parts.scheme]
    direct = is_loopback(endpoint.url) or bool(urllib.request.proxy_bypass(host))
    through_proxy = not direct and bool({parts.scheme, "all"} & set(urllib.request.getproxies()))
    failures = [] if through_proxy else [f"no answer within {PROBE_SECONDS:.0f} s"]

    def ask() -> None:
        try:
            if through_proxy:
                opener = urllib.request.build_opener()  # `urlopen` would keep the proxies of its first call
                opener.open(f"{endpoint.url.rstrip('/')}/models", timeout=PROBE_SECONDS).close()
            else:
                socket.create_connection((host, port), timeout=PROBE_SECONDS).close()
            failures.clear()
        except urllib.error.HTTPError as error:
            if error.code in (502, 503, 504):
                failures.append(f"the proxy says {error.code} {error.reason}")
        except TimeoutError:
            pass  # of a connection it is said already
        except OSError as error:
            failures.append(str(getattr(error, "reason", error.strerror or error)))

    thread = threading.Thread(target=ask, daemon=True)  # the look-up of a name has no time limit of its own
    thread.start()
    thread.join(PROBE_SECONDS)
    if failures:
        raise ConfigError(
            f"{key}.url: {endpoint.url} cannot be reached ({failures[-1]}): start the server, or correct the url."
        )


def is_loopback(url: str) -> bool:
    """Whether the server is on this machine."""
    return urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")


def _parts(url: str) -> SplitResult | None:
    """The parts of a base URL; None where it is none."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return None
    return parts if usable else None
