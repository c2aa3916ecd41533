"""Runs of commands under the shim: what they did to files, what they printed, how they ended."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.file_faults.control import NOTHING, Fault, build_shim, fired

SECONDS = 300.0  # after which a run counts as one that hangs


@dataclass(frozen=True)
class Operation:
    """One file operation: its kind and the path below the watched folder."""

    kind: str
    path: str

    @property
    def pattern(self) -> tuple[str, str]:
        """What operations of one kind on like files share: numbers and random names are struck out."""
        return self.kind, re.sub(r"[0-9a-f]{8,}|\d+|(?<=tmp)\w{8}", "#", self.path)


@dataclass(frozen=True)
class Ending:
    """How a run ended. `code` is minus the signal for one that was killed; `fired`: its fault happened."""

    code: int
    output: str
    operations: list[Operation]
    fired: bool


class Commands:
    """A server of `server.py`. `folder` holds what the trials need besides the folder of the run."""

    def __init__(self, folder: Path, shim: Path) -> None:
        self.folder = folder
        environment = os.environ | {
            "LD_PRELOAD": str(shim),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "COLUMNS": "200",
        }
        environment.pop("FILE_FAULTS", None)
        command = [sys.executable, str(Path(__file__).with_name("server.py"))]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, env=environment, text=True, **pipes)
        self._read()

    def start(self, watched: Path, arguments: Sequence[str], fault: Fault = NOTHING, **more: Any) -> int:
        """Start a run, and return its process id, which is that of its group. `more`: see `server.run`."""
        for name in ("log", "output"):
            (self.folder / name).unlink(missing_ok=True)
        block = fault.control(watched.resolve(), self.folder / "log")
        (self.folder / "control").write_bytes(bytes(block))
        places = {"control": str(self.folder / "control"), "output": str(self.folder / "output")}
        request = {"do": "start", "folder": str(self.folder), "arguments": list(arguments), **places, **more}
        return self._ask(request)["child"]

    def wait(self, child: int, watched: Path) -> Ending:
        """Wait until a run ends."""
        code = self._ask({"do": "wait", "child": child, "seconds": SECONDS})["code"]
        log, root = self.folder / "log", str(watched.resolve())
        lines = log.read_text().splitlines() if log.is_file() else []
        operations = [
            Operation(kind, os.path.relpath(path, root)) for kind, path in (line.split("\t") for line in lines)
        ]
        output = (self.folder / "output").read_text(errors="replace")
        return Ending(code, output, operations, fired(self.folder / "control"))

    def run(self, watched: Path, arguments: Sequence[str], fault: Fault = NOTHING, **more: Any) -> Ending:
        """A run from its start to its end."""
        return self.wait(self.start(watched, arguments, fault, **more), watched)

    def warm(self, watched: Path, arguments: Sequence[str], **more: Any) -> Ending:
        """A run after which the server has imported what the run imported."""
        modules = self.folder / "modules"
        ending = self.run(watched, arguments, modules=str(modules), **more)
        if modules.is_file():
            self._ask({"do": "load", "names": json.loads(modules.read_text())})
        return ending

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server of the trials ended with {self._process.wait()}")
        return json.loads(line)


@contextmanager
def commands(folder: Path) -> Iterator[Commands]:
    """A server for trials, whose files are in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    server = Commands(folder, build_shim(folder))
    try:
        yield server
    finally:
        server.close()
