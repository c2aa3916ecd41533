"""vLLM servers that a run starts on its own machine, waits for, and stops at its end.

The first process of each machine starts them; the others wait for them. However that process ends, `watchdog` stops
them. A server that already answers at an endpoint's url is used as it is, if it serves the endpoint's model.
"""

import functools
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from rich.console import Console

from difference_feedback.errors import ConfigError, DifferenceFeedbackError
from difference_feedback.runs import watchdog
from difference_feedback.runs.check import check
from difference_feedback.runs.first_rank import is_first_of_machine
from difference_feedback.runs.folder import Run
from difference_feedback.runs.model_folder import CONFIG, adapter_base, place_of
from difference_feedback.runs.recipes import Recipe
from difference_feedback.runs.safe_path import without_safe_path
from difference_feedback.runs.sections import Endpoint, RepairServe
from difference_feedback.runs.servers import endpoints_of, find_program
from difference_feedback.runs.terminal import Terminal

F = TypeVar("F", bound=Callable[..., Any])
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has room for
_OF_THE_LAUNCHER = ("ACCELERATE_", "FSDP_", "ROLE_", "GROUP_", "TORCHELASTIC_", "MASTER_")
_OF_A_RANK = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "VLLM_API_KEY", "VLLM_HOST_IP"}
_POLL_SECONDS = 0.5
_LARGEST_LIST = 2**22  # bytes
_running: dict[str, "Server"] = {}  # by url: those that this process started


class Server:
    """A server of this process. `url` is its endpoint's."""

    def __init__(self, endpoint: Endpoint, log: Path) -> None:
        """Start it; what it prints is appended to `log`."""
        self.url, self.log = endpoint.url, log
        environment = server_environment(endpoint)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", watchdog.__file__, *server_command(endpoint)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        _running[self.url] = self

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def describe_end(self) -> str:
        """The exit status, and the end of the log."""
        tail = "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        return f"ended with exit status {self._process.returncode}. The end of {self.log}:\n{tail}"

    def stop(self) -> None:
        """Stop it, and wait for that."""
        _running.pop(self.url, None)
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(2 * watchdog.STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def refuse_dead_server(url: str) -> None:
    """Raise `DifferenceFeedbackError` where this process started the server at `url`, and it has ended."""
    server = _running.get(url)
    if server is not None and server.ended:
        raise DifferenceFeedbackError(f"The run's own server at {url} {server.describe_end()}")


def with_servers(function: F) -> F:
    """For functions of a recipe and a run: around them, the servers run that the recipe says to `serve`."""

    @functools.wraps(function)
    def served(recipe: Recipe, run: Run, *args: Any, **kwargs: Any) -> Any:
        endpoints = {key: endpoint for key, endpoint in endpoints_of(recipe).items() if endpoint.serve}
        if not endpoints:
            return function(recipe, run, *args, **kwargs)
        check(recipe)
        with serving(endpoints, run.folder):
            result = function(recipe, run, *args, **kwargs)
            _wait_for_other_ranks()
            return result

    return cast(F, served)


def _wait_for_other_ranks() -> None:
    """They may still ask the servers. Where torch has joined no ranks, there are none."""
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.barrier()


@contextmanager
def serving(endpoints: Mapping[str, Endpoint], folder: Path) -> Iterator[None]:
    """Meanwhile every endpoint with `serve` has its server; each key's first word names its log in `folder`.

    Raises:
        ConfigError: another server answers at an endpoint's url.
        DifferenceFeedbackError: a server does not start, or not in time. The end of its log is in the message.
    """
    console = Terminal(stderr=True, emoji=False, soft_wrap=True, highlight=False)
    first = is_first_of_machine()
    with ExitStack() as stack:
        started: dict[str, Server | None] = {}
        # A server that others share with the repairs is started as the others want it: without speculation.
        for key, endpoint in sorted(endpoints.items(), key=lambda item: isinstance(item[1].serve, RepairServe)):
            if endpoint.url not in started:
                serves = served_models(endpoint)
                started[endpoint.url] = None
                if serves is not None and endpoint.model not in serves:
                    raise ConfigError(
                        f"{key}.url: the server at {endpoint.url} is there already and serves {', '.join(serves)}, "
                        f"not {endpoint.model}: stop it, or give another port."
                    )
                if serves is None and first:
                    log = folder / f"vllm_{key.split('.')[0]}.log"
                    console.print(f"Starting {endpoint.model} at {endpoint.url}; its log: {log}", markup=False)
                    started[endpoint.url] = server = Server(endpoint, log)
                    stack.callback(server.stop)
        for key, endpoint in endpoints.items():
            seconds = _wait(key, endpoint, started[endpoint.url], console)
            if first:
                how = f"after {seconds:.0f} s" if started[endpoint.url] else "already"
                console.print(f"{endpoint.model} is served at {endpoint.url} {how}.", markup=False)
        yield


def _wait(key: str, endpoint: Endpoint, server: Server | None, console: Console) -> float:
    """Seconds until the server serves the model."""
    assert endpoint.serve is not None
    start = time.monotonic()
    with console.status("") as status:
        while endpoint.model not in (served_models(endpoint) or ()):
            seconds = time.monotonic() - start
            status.update(f"waiting for {endpoint.model}: {seconds:.0f} s")
            if server is not None and server.ended:
                raise DifferenceFeedbackError(f"{key}.serve: the server {server.describe_end()}")
            if seconds > endpoint.serve.startup_seconds:
                raise DifferenceFeedbackError(
                    f"{key}.serve: the server does not serve {endpoint.model} after {seconds:.0f} s: see its log, or "
                    "raise startup_seconds."
                )
            time.sleep(_POLL_SECONDS)
    return time.monotonic() - start


def served_models(endpoint: Endpoint) -> list[str] | None:
    """The names of the models that the server on this machine serves; None where nobody answers.

    Raises `ConfigError` where something else answers there.
    """
    request = urllib.request.Request(f"{endpoint.url.rstrip('/')}/models")
    if endpoint.api_key_env:
        request.add_unredirected_header("Authorization", f"Bearer {os.environ.get(endpoint.api_key_env, '')}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as response:
            return [str(model["id"]) for model in json.loads(response.read(_LARGEST_LIST))["data"]]
    except urllib.error.HTTPError as error:
        raise ConfigError(f"{endpoint.url}: a server answers {error.code} {error.reason} there: stop it.") from None
    except OSError:
        return None
    except (http.client.HTTPException, ValueError, KeyError, TypeError, RecursionError):
        raise ConfigError(f"{endpoint.url}: what answers there has no list of models: give another port.") from None


def free_url() -> str:
    """A base URL on this machine at which nobody listens yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def server_command(endpoint: Endpoint) -> list[str]:
    """The words that start the server. A folder with an adapter is served on the base that it names."""
    serve = endpoint.serve
    assert serve is not None
    model = serve.model or endpoint.model
    parts = urlsplit(endpoint.url)
    # The neutral sampling of `generation-config: vllm`: a model's own would shape every answer unseen.
    options: dict[str, Any] = {"host": parts.hostname, "port": parts.port, "generation-config": "vllm"}
    base = adapter_base(model)
    if base is None:
        options["served-model-name"] = endpoint.model
    else:
        rank = int(json.loads((Path(model).expanduser() / CONFIG).read_text(encoding="utf-8"))["r"])
        size = min((size for size in _LORA_RANKS if size >= rank), default=rank)
        options |= {"enable-lora": True, "max-lora-rank": size, "lora-modules": f"{endpoint.model}={model}"}
        model = base
    model = place_of(model)
    words = list(serve.command)
    words[0] = find_program(words[0]) or words[0]
    if "serve" in words:
        place = words.index("serve") + 1  # vLLM wants the model right there
        words[place:place] = [model]
    else:
        words.append(f"--model={model}")
    return words + [word for name, value in (options | serve.all_options()).items() for word in _option(name, value)]


def _option(name: str, value: Any) -> list[str]:
    name = name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}={json.dumps(value) if isinstance(value, dict | list) else value}"]


def server_environment(endpoint: Endpoint) -> dict[str, str]:
    """This process's environment without what its launcher put there, with the server's GPUs and its key."""
    assert endpoint.serve is not None
    environment = without_launcher(os.environ)
    if any(word.endswith(".py") for word in endpoint.serve.command):
        environment = without_safe_path(environment)
    environment["VLLM_HOST_IP"] = "127.0.0.1"  # where vLLM's own processes talk to each other
    if endpoint.serve.gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = endpoint.serve.gpus
    if endpoint.api_key_env:
        environment["VLLM_API_KEY"] = os.environ[endpoint.api_key_env]
    return environment


def without_launcher(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without what `torchrun` or `accelerate launch` put there: for a program that is no rank."""
    return {
        name: value
        for name, value in environment.items()
        if name not in _OF_A_RANK and not name.startswith(_OF_THE_LAUNCHER)
    }
