"""A process that has imported everything once, and forks a child for every run: a trial costs the run alone.

    python server.py    # with LD_PRELOAD set to the shim; requests on stdin, replies on stdout, one JSON object a line

A child is the leader of a process group of its own. Only the server can wait for it; the client kills it by its id.
"""

import ctypes
import importlib
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from typing import Any

START = ("torch", "transformers", "trl", "difference_feedback.cli", "difference_feedback.policy.train")


def load(names: Any) -> None:
    """Import modules, so that children find them imported. Those that cannot be imported alone are left out."""
    for name in names:
        if name not in sys.modules:
            with suppress(Exception):
                importlib.import_module(name)


def run(request: dict[str, Any]) -> int:
    """Run a command, or `call`, a function `module:name` of the tests, in this process. Returns the exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A fresh interpreter for every cell of a bench would take ten seconds.
    context = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: context("fork")  # type: ignore[method-assign]
    try:
        if "call" in request:
            module, name = request["call"].split(":")
            getattr(importlib.import_module(module), name)(*request["arguments"])
            return 0
        from difference_feedback.cli import main

        sys.argv = ["difference-feedback", *request["arguments"]]
        main()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def start(request: dict[str, Any]) -> int:
    """Fork a child that runs the request. Returns its id, which is also that of its process group."""
    child = os.fork()
    if child:
        with suppress(OSError):
            os.setpgid(child, child)
        return child
    with suppress(OSError):
        os.setpgid(0, 0)
    os.environ["FILE_FAULTS"] = request["control"]
    ctypes.CDLL(None).file_faults_attach()
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, target)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    code = 1
    try:
        os.chdir(request["folder"])
        code = run(request)
        if "modules" in request:
            with open(request["modules"], "w") as file:
                json.dump(list(sys.modules), file)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(child: int, seconds: float) -> int:
    """Wait for a child and end what is left of its group. Returns the exit code; minus the signal that killed it."""
    end = time.monotonic() + seconds
    while not (result := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -1000
        time.sleep(0.002)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(result[1])


def main() -> None:
    """Serve until stdin ends."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(1)
    load(START)
    replies.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        request = json.loads(line)
        match request["do"]:
            case "load":
                load(request["names"])
                reply = {}
            case "start":
                reply = {"child": start(request)}
            case "wait":
                reply = {"code": wait(request["child"], request["seconds"])}
        replies.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
