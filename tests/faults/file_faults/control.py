"""What the shim does in a process: the file of control that `shim.c` maps, and the compiler that makes the shim."""

import ctypes
import errno
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

KINDS = ("open", "write", "rename", "unlink", "mkdir", "rmdir", "link", "truncate", "sync", "map")
MODES = ("off", "count", "kill", "kill half", "fail once", "fail from")


class Control(ctypes.Structure):
    """`struct control` of `shim.c`."""

    _fields_ = (
        ("mode", ctypes.c_int),
        ("error", ctypes.c_int),
        ("at", ctypes.c_long),
        ("kinds", ctypes.c_long),
        ("whole_group", ctypes.c_int),
        ("fired", ctypes.c_int),
        ("count", ctypes.c_long),
        ("folder", ctypes.c_char * 512),
        ("log", ctypes.c_char * 512),
    )


@dataclass(frozen=True)
class Fault:
    """What happens at the operation `at` (from 1) of a process group: one of `MODES`, and the error of one that fails.

    `kill half` writes the first half of the data before it kills. `fail from` fails from there on, `fail once` there
    alone. `alone` kills the one process that makes the operation, not its whole group.
    """

    mode: str = "count"
    at: int = 0
    error: int = errno.ENOSPC
    alone: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """The operations that fail by this error: a full disk still renames and removes, a failing one still opens."""
        if self.error == errno.EROFS:
            return KINDS
        if self.error == errno.EIO:
            return ("write", "sync")
        return ("open", "write", "mkdir", "link")

    def control(self, folder: Path, log: Path) -> Control:
        """The block for a trial in `folder`, whose operations are listed in `log`."""
        kinds = sum(1 << KINDS.index(kind) for kind in self.kinds)
        return Control(
            MODES.index(self.mode), self.error, self.at, kinds, not self.alone, 0, 0, bytes(folder), bytes(log)
        )


NOTHING = Fault()
"""Operations are counted and listed, and that is all."""


def fired(path: Path) -> bool:
    """Whether a trial's fault has happened, by its file of control."""
    return bool(Control.from_buffer_copy(path.read_bytes()).fired)


def build_shim(folder: Path) -> Path:
    """Compile the shim. Raises `RuntimeError` with the remedy where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise RuntimeError(
            "the tests of kills and full disks compile a small C library, and there is no C compiler: install one "
            "(Debian: apt-get install gcc libc6-dev)"
        )
    source, library = Path(__file__).with_name("shim.c"), folder / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-o", str(library), str(source), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
    return library
