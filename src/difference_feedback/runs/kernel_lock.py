"""Locks of files that the kernel holds, and frees when their process ends, even killed. Some file systems have none."""

import errno
import os
from pathlib import Path

from filelock import BaseFileLock, FileLock

from difference_feedback.runs.terminal import Terminal

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
_reported: set[str] = set()


class KernelLock:
    """The lock of the file `path`. Where the file system has no locks, work goes on without one.

    A line says so, once for each folder.
    """

    def __init__(self, path: str | os.PathLike[str], by_thread: bool = True) -> None:
        """`by_thread`: threads of this process exclude each other as processes do; one may hold it several times."""
        self._folder = str(Path(path).parent)
        self._lock = _lock_of(path, by_thread)

    def acquire(self, patience: float = -1) -> bool:
        """Wait for the lock, `patience` seconds or without a limit. False where the file system has no locks.

        Raises `filelock.Timeout`, and `OSError` where the file cannot be opened.
        """
        try:
            self._lock.acquire(timeout=patience)
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            if self._folder not in _reported:
                _reported.add(self._folder)
                Terminal(stderr=True, emoji=False, soft_wrap=True).print(
                    f"{self._folder}: this file system has no locks ({error}): let only one command at a time work in "
                    "this folder.",
                    markup=False,
                )
            return False
        return True

    def release(self) -> None:
        """Give the lock back, if it is held."""
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def _lock_of(path: str | os.PathLike[str], by_thread: bool) -> BaseFileLock:
    try:  # a marker file in place of a lock would outlive a process that was killed
        return FileLock(path, thread_local=by_thread, fallback_to_soft=False)
    except TypeError:  # versions that have no such marker
        return FileLock(path, thread_local=by_thread)
