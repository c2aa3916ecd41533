"""Run a command beside a real vLLM server on loopback that serves the nano base. `make test-vllm` runs pytest so:

    PYTHONPATH=tests .venv/bin/python -m servers.vllm_server .venv-vllm/bin/python .venv/bin/python -m pytest -m vllm

The first argument is the Python of an environment with vLLM, the rest is the command. vLLM has an environment of its
own because it pins half of what it depends on. The command finds the server's base URL in DIFFERENCE_FEEDBACK_VLLM_URL,
the model's folder and vLLM's Python in two more variables; its exit status is this script's. The server is started as a
run starts its own, by `runs.serving`, and however this script ends, the server ends with it.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from servers.wide_nano import widened

from difference_feedback.runs.sections import Endpoint
from difference_feedback.runs.serving import free_url, serving
from difference_feedback.world.nano import load_base

URL, FOLDER, PYTHON = (f"DIFFERENCE_FEEDBACK_VLLM_{name}" for name in ("URL", "FOLDER", "PYTHON"))
MODEL = "nano"
COMMAND_SECONDS = 1800

OPTIONS = {
    "dtype": "float32",  # on the CPU, bfloat16 would give other answers than the shipped base
    "max-model-len": 2048,
    "max-num-seqs": 8,
    "enforce-eager": True,
    "enable-scale-out": True,  # for TRL's client: it lets the server process images on their own
}
SETTINGS = {
    "PYTHONPATH": str(Path(__file__).parent / "vllm_startup"),
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # other processes have their share of the cores
}


def serve_settings(python: str, folder: str | Path) -> dict[str, object]:
    """The `serve` section for the model in `folder`, on the CPU."""
    openmp = Path(python).absolute().parents[1] / "lib" / "libiomp5.so"  # without it vLLM on the CPU speculates slowly
    settings = [f"{name}={value}" for name, value in (SETTINGS | {"LD_PRELOAD": openmp}).items()]
    # `vllm serve` is the same, but looks for a distribution named vllm, and the one for the CPU is named vllm-cpu.
    command = ["env", *settings, python, "-m", "vllm.entrypoints.openai.api_server"]
    return {"command": command, "model": str(folder), "options": OPTIONS, "startup_seconds": 300}


def main(python: str, *command: str) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    model, processor = load_base()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "nano"
        widened(model).save_pretrained(folder)
        processor.save_pretrained(folder)
        endpoint = Endpoint.model_validate({"url": free_url(), "model": MODEL, "serve": serve_settings(python, folder)})
        with serving({"test.endpoint": endpoint}, Path(name)):
            places = {URL: endpoint.url, FOLDER: str(folder), PYTHON: python}
            return subprocess.run(command, env=os.environ | places, timeout=COMMAND_SECONDS).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
