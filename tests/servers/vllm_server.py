"""Run a command beside a real vLLM server on loopback that serves the nano base. `make test-vllm` runs pytest so:

    PYTHONPATH=tests .venv/bin/python -m servers.vllm_server .venv-vllm/bin/python .venv/bin/python -m pytest -m vllm

The first argument is the Python of an environment with vLLM, the rest is the command. vLLM has an environment of its
own because it pins half of what it depends on. The command finds the server's base URL in DIFFERENCE_FEEDBACK_VLLM_URL;
its exit status is this script's. However it ends, the server ends with it.
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from servers.wide_nano import widened

from difference_feedback.world.nano import load_base

URL = "DIFFERENCE_FEEDBACK_VLLM_URL"
MODEL = "nano"
START_SECONDS, COMMAND_SECONDS, STOP_SECONDS = 300, 600, 20

OPTIONS = {
    "served-model-name": MODEL,
    "host": "127.0.0.1",
    "dtype": "float32",  # on the CPU, bfloat16 would give other answers than the shipped base
    "max-model-len": 2048,
    "max-num-seqs": 8,
}
SETTINGS = {
    "PYTHONPATH": str(Path(__file__).parent / "vllm_startup"),
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    # Engine and workers talk over sockets of their own, by default on the machine's address in the network.
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # other processes have their share of the cores
}


@contextmanager
def serving(python: str, folder: Path) -> Iterator[str]:
    """Serve the model in `folder` meanwhile; yields the base URL with the version."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [f"--{name}={value}" for name, value in (OPTIONS | {"model": folder, "port": port}).items()]
    # `vllm serve` is the same, but looks for a distribution named vllm, and the one for the CPU is named vllm-cpu.
    serve = [python, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager", *options]
    # A limit that holds even if this process is killed. It also kills what the server has started.
    limited = ["timeout", "--kill-after=10", str(START_SECONDS + COMMAND_SECONDS + STOP_SECONDS), *serve]
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            limited, stdout=output, stderr=output, env=os.environ | SETTINGS, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not healthy(port):
            if server.poll() is not None or time.monotonic() > deadline:
                print(log.read_text(errors="replace")[-8000:], file=sys.stderr)
                raise SystemExit("vLLM did not start; the end of its log is above.")
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(server.pid, number)
                server.wait(STOP_SECONDS)


def healthy(port: int) -> bool:
    """Whether the server answers and says that it is well."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def main(python: str, *command: str) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped then as well
    model, processor = load_base()
    with tempfile.TemporaryDirectory() as name:
        widened(model).save_pretrained(name)
        processor.save_pretrained(name)
        start = time.monotonic()
        with serving(python, Path(name)) as url:
            print(f"vLLM serves {MODEL} at {url} after {time.monotonic() - start:.0f} s", flush=True)
            return subprocess.run(command, env=os.environ | {URL: url}, timeout=COMMAND_SECONDS).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
