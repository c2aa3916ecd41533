"""One process at a time works in a folder. The kernel holds the lock, and frees it when that process ends, even killed.

.lock      the locked file; it stays
.holder    the process that holds the lock, for the message to others: {"pid", "host"}
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import Timeout

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.runs.kernel_lock import KernelLock
from difference_feedback.runs.outputs import write_atomically

LOCK, HOLDER = ".lock", ".holder"
PATIENCE = 1.0  # seconds: the children of a process that was killed may live a moment longer


class FolderLock:
    """This process's hold on a folder. `hold` makes it."""

    def __init__(self, folder: Path, lock: KernelLock | None) -> None:
        self.folder = folder
        self.count = 0
        self._lock = lock
        self._file = os.stat(folder / LOCK) if lock else None

    @property
    def is_locked(self) -> bool:
        """False where the file system has no locks."""
        return self._lock is not None

    @property
    def is_in_place(self) -> bool:
        """Whether the folder still has the file that was locked: it was not moved, removed or made anew."""
        if self._file is None:
            return True
        try:
            return os.path.samestat(os.stat(self.folder / LOCK), self._file)
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give back one hold. The last one frees the folder for other processes."""
        self.count -= 1
        if self.count == 0 and _held.get(str(self.folder)) is self:
            del _held[str(self.folder)]
            if self._lock is not None:
                self._lock.release()


_held: dict[str, FolderLock] = {}
_process = os.getpid()


def hold(folder: Path) -> FolderLock:
    """Lock `folder`, which exists, for this process. A process that has it already holds it once more.

    A file system without locks is reported once, and the work goes on.

    Raises `ConfigError` where another process holds the folder, or nothing can be written there.
    """
    global _process
    if _process != os.getpid():  # a fork: what its parent holds is not its own
        _held.clear()
        _process = os.getpid()
    folder = folder.resolve()
    held = _held.get(str(folder))
    if held is None:
        held = _held[str(folder)] = FolderLock(folder, _lock(folder))
    held.count += 1
    return held


def check_held() -> None:
    """Raise `ConfigError` where a folder of this process was moved or removed: its results would be torn apart."""
    for held in list(_held.values()):
        if not held.is_in_place:
            raise ConfigError(
                f"{held.folder} was moved or removed while this run worked in it: nothing more is written. The same "
                "command with the folder's new place as --output continues the run."
            )


def check_free(folder: Path) -> None:
    """Raise `ConfigError` where another process holds `folder`, before anything slow. Nothing is made there."""
    if (folder / LOCK).is_file():
        hold(folder).release()


@contextmanager
def holding(folder: Path) -> Iterator[FolderLock]:
    """`hold` for as long as the work inside lasts. The folder is made first."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}: give --output a folder that can be made.") from None
    held = hold(folder)
    try:
        yield held
    finally:
        held.release()


def _lock(folder: Path) -> KernelLock | None:
    lock = KernelLock(folder / LOCK, by_thread=False)
    try:
        if not lock.acquire(PATIENCE):
            return None
    except Timeout:
        raise ConfigError(
            f"{folder}: another run is at work there{_holder(folder)}: wait for it, end it, or give another --output."
        ) from None
    except OSError as error:
        place = folder / LOCK if os.path.lexists(folder / LOCK) else folder
        raise ConfigError(f"{place}: {error.strerror}: give --output a folder that can be written to.") from None
    with suppress(DataError):  # a full disk: the lock is what counts
        write_atomically(folder / HOLDER, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    return lock


def _holder(folder: Path) -> str:
    try:
        values = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f" (process {values['pid']} on {values['host']})"
    except (OSError, ValueError, TypeError, KeyError):
        return ""
