"""Servers that a recipe names: whether one can be asked at all, and whether someone listens there."""

import os
import shutil
import socket
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from difference_feedback.errors import ConfigError
from difference_feedback.runs.model_folder import check_model
from difference_feedback.runs.packages import require
from difference_feedback.runs.recipes import (
    BenchmarksRecipe,
    EvaluateRecipe,
    Recipe,
    RepairRLRecipe,
    RepairSFTRecipe,
    TrainRecipe,
)
from difference_feedback.runs.repair_check import RepairCheckRecipe
from difference_feedback.runs.sections import Endpoint, PolicyEndpoint, Serve
from difference_feedback.runs.value_types import base_url

PROBE_SECONDS = 1.0
_OF_THE_RUN = {
    "host": "the server listens on this machine alone, at the url's host",
    "port": "it is the url's",
    "model": "give serve.model",
    "served-model-name": "it is the endpoint's model",
    "api-key": "give api_key_env, since others can read a command line",
    "trust-remote-code": "no code of a model is run",
}


def check_endpoint(endpoint: Endpoint, key: str = "endpoint") -> None:
    """Raise `ConfigError` where a server cannot be asked even if it runs: the url, the package or the key is missing.

    `key` is what the recipe calls the endpoint.
    """
    if any(sign in endpoint.url for sign in "@?#"):  # config.yaml and messages would keep a password
        raise ConfigError(
            f"{key}.url has a user name, a password, a query or a fragment in it: give the url without, and name the "
            "environment variable with the key in api_key_env (`Basic ...` is sent as it is)."
        )
    require("httpx", f"{key}.url: {endpoint.url}")
    if endpoint.api_key_env is not None and not os.environ.get(endpoint.api_key_env):
        raise ConfigError(
            f"{key}.api_key_env names the environment variable {endpoint.api_key_env}, which is not set: set it, or "
            "leave the field out for a server without keys."
        )
    value = os.environ[endpoint.api_key_env] if endpoint.api_key_env else ""
    if not (value.isascii() and value.isprintable() and value == value.strip()):
        raise ConfigError(
            f"{key}.api_key_env: the value of {endpoint.api_key_env} has a line break, a blank at an end, or a sign "
            "that no key has: set it again."
        )
    if not is_loopback(endpoint.url) and urllib.request.getproxies():
        import httpx

        try:
            httpx.Client().close()
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"{key}.url: the environment's proxy cannot be used ({error}): pip install 'httpx[socks]' and write "
                "socks5://, or add the server to NO_PROXY."
            ) from None


def endpoints_of(recipe: Recipe) -> dict[str, Endpoint]:
    """The servers that a run asks, by their keys in the recipe. `evaluation.endpoint` gets its model's name."""
    endpoints: dict[str, Endpoint | None] = {}
    match recipe:
        case TrainRecipe():
            if recipe.needs_repairer and recipe.repairs.via != "local":
                endpoints["repairs.endpoint"] = recipe.repairs.endpoint
            endpoints["judge.endpoint"] = recipe.judge.endpoint if recipe.judge else None
        case EvaluateRecipe():
            endpoints["judge.endpoint"] = recipe.judge.endpoint if recipe.judge else None
            endpoints["evaluation.endpoint"] = named(recipe.evaluation.endpoint, recipe.model)
        case BenchmarksRecipe():
            endpoints["judge"] = recipe.judge
            endpoints["endpoint"] = named(recipe.endpoint, recipe.model)
        case RepairSFTRecipe():
            endpoints["evaluation.endpoint"] = None if recipe.data else named(recipe.evaluation.endpoint, recipe.model)
        case RepairRLRecipe():
            if recipe.audit.enabled and recipe.audit.auditor == "endpoint":
                endpoints["audit.endpoint"] = recipe.audit.endpoint
            endpoints["evaluation.endpoint"] = named(recipe.evaluation.endpoint, recipe.policy)
        case RepairCheckRecipe():
            if recipe.repairs.via != "local":
                endpoints["repairs.endpoint"] = recipe.repairs.endpoint
            if recipe.audit is not None and recipe.audit.enabled:
                endpoints["audit.endpoint"] = recipe.audit.endpoint
            endpoints["judge.endpoint"] = recipe.judge.endpoint if recipe.judge else None
            if recipe.wrong_answers is None:
                endpoints["sampling.endpoint"] = named(recipe.sampling.endpoint, recipe.policy)
    return {key: endpoint for key, endpoint in endpoints.items() if endpoint is not None}


def named(endpoint: PolicyEndpoint | None, model: str) -> PolicyEndpoint | None:
    """The endpoint with the name of the model that it serves."""
    return endpoint and endpoint.model_copy(update={"model": endpoint.model or model})


def check_server(endpoint: Endpoint, key: str) -> None:
    """`check_endpoint`, and `ConfigError` where nobody answers; with `serve`, where the server cannot be started.

    `key` is what the recipe calls the endpoint.
    """
    check_endpoint(endpoint, key)
    if endpoint.serve is not None:
        _check_serve(endpoint, endpoint.serve, key)
        return
    check_reachable(endpoint.url, f"{key}.url")


def _check_serve(endpoint: Endpoint, serve: Serve, key: str) -> None:
    """What can be known before the server is started: its place, its program, its model."""
    if not is_loopback(endpoint.url) or urlsplit(endpoint.url).port is None:
        raise ConfigError(
            f"{key}.url: {endpoint.url}: with serve the run starts the server on this machine: give "
            "http://127.0.0.1:PORT/v1, or leave serve out for a server elsewhere."
        )
    for name in serve.options:
        if (why := _OF_THE_RUN.get(name.replace("_", "-").lstrip("-"))) is not None:
            raise ConfigError(f"{key}.serve.options.{name} is set by the run itself ({why}): leave it out.")
    if find_program(serve.command[0]) is None:
        raise ConfigError(
            f"{key}.serve.command: there is no program {serve.command[0]}: pip install vllm, or name the vllm of "
            "another environment, for example /opt/vllm/bin/vllm serve."
        )
    model = serve.model or endpoint.model
    if model == "nano":
        raise ConfigError(f"{key}: vLLM cannot serve the nano base, whose layers are too narrow: give another model.")
    check_model(model, f"{key}.serve.model" if serve.model else f"{key}.model")


def find_program(word: str) -> str | None:
    """The path of a program: on PATH, or beside this Python."""
    return shutil.which(word) or shutil.which(word, path=str(Path(sys.executable).parent))


def check_reachable(url: str, key: str) -> None:
    """Raise `ConfigError` where nobody answers at a server's base url, which `key` names.

    Without a proxy that is a connection to the server's port. Through a proxy it is a request without a key; any answer
    but the proxy's own "no server there" counts, and so does a late one.
    """
    try:
        parts = urlsplit(base_url(url))
    except ValueError as error:
        raise ConfigError(f"{key} is {url!r}: give {error}") from None
    host, port = str(parts.hostname), parts.port or {"http": 80, "https": 443}[parts.scheme]
    direct = is_loopback(url) or bool(urllib.request.proxy_bypass(host))
    proxies = {} if direct else urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and proxy.startswith("socks"):
        return  # only httpx speaks to those
    failures = [] if proxy else [f"no answer within {PROBE_SECONDS:.0f} s"]

    def ask() -> None:
        try:
            if proxy:
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({parts.scheme: proxy}))
                opener.open(f"{url.rstrip('/')}/models", timeout=PROBE_SECONDS).close()
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
        raise ConfigError(f"{key}: {url} cannot be reached ({failures[-1]}): start the server, or correct the url.")


def is_loopback(url: str) -> bool:
    """Whether the server is on this machine."""
    return urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")
