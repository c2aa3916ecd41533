"""Work on the rows of a file that is spread over processes: the results come in the order of the rows.

Each process gets one part of the file at a time, as bytes, so the memory does not grow with the file. The first parts
are done without processes, which take a moment to start.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from difference_feedback.errors import DataError
from difference_feedback.runs.safe_path import use_safe_path

Part = TypeVar("Part")
Result = TypeVar("Result")
_ALONE = 16  # parts at the start that are done without processes
_MOST = 16  # more processes than that wait for the one that reads and writes
_GUARD = '`if __name__ == "__main__":`'  # each process loads the program that starts it
_QUOTAS = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def usable_cores() -> int:
    """The cores that this process may use: those that it is bound to, or the share that its container has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for paths in (_QUOTAS[:1], _QUOTAS[1:]):
        with suppress(OSError, ValueError):
            quota, period = " ".join(Path(path).read_text() for path in paths).split()
            if float(quota) > 0:  # "max" is no number, and -1 stands for it in the older form
                return max(1, min(cores, int(float(quota) / float(period))))
    return cores


def in_order(work: Callable[[Part], Result], parts: Iterable[Part], jobs: int | None) -> Iterator[Result]:
    """`work(part)` of all parts, in their order, on `jobs` cores; None: on all that may be used.

    With several cores and many parts, processes do the work, so `work` and the parts must be of the kind that can be
    pickled.

    Raises:
        DataError: a process was killed, or ended before its time.
    """
    jobs = min(usable_cores(), _MOST) if jobs is None else jobs
    parts = iter(parts)
    yield from map(work, parts if jobs == 1 else islice(parts, _ALONE))
    first = list(islice(parts, jobs))
    workers: list[_Worker] = []
    try:
        for _ in first:
            workers.append(_Worker())
        for worker in workers:  # all load it at once, while they wait for their parts
            worker.send(work)
        for worker, part in zip(workers, first, strict=True):
            worker.send(part)
        first.clear()
        busy = deque(workers)  # in the order of their parts
        for part in parts:
            worker = busy.popleft()
            result = worker.result()
            worker.send(part)  # before the result is used, so that it need not wait for that
            busy.append(worker)
            yield result
        yield from (worker.result() for worker in busy)
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """A process that gets the work to do, and then does one part after the other.

    It ends with this process, however this one ends.
    """

    def __init__(self) -> None:
        use_safe_path()
        processes = multiprocessing.get_context("spawn")
        self._pipe, end = processes.Pipe()
        self._process = processes.Process(target=_work, args=(end,), daemon=True)
        with _no_interrupts():
            self._process.start()
        end.close()  # the process has the only other one, so that its death closes the pipe

    def send(self, message: Any) -> None:
        """Send it the work, or a part while it has none."""
        with suppress(OSError):  # it was killed, as `result` shows
            self._pipe.send(message)

    def result(self) -> Any:
        """What it has made of its part. Raises what went wrong there, and `DataError` where the process has ended."""
        try:
            done, result = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode or 0
            if code < 0:
                how, remedy = f"was killed by {_name(-code)}", "Systems kill processes when memory runs out: free some"
            else:
                how = f"ended with exit code {code}"
                remedy = f"Its error is printed above. A Python program is to call this under {_GUARD} in a file"
            raise DataError(
                f"a process that worked on a part of the rows {how}, so no file was written. "
                f"{remedy}, or run fewer with --jobs (1: none besides this one)"
            ) from None
        if not done:
            raise result
        return result

    def stop(self) -> None:
        """End it, whatever it does."""
        self._pipe.close()
        self._process.terminate()
        self._process.join()


def _work(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that reads and writes ends this one
    with suppress(EOFError, OSError):  # it has ended
        work = pipe.recv()
        while True:
            part = pipe.recv()
            try:
                result = True, work(part)
            except Exception as error:
                error.add_note(traceback.format_exc())  # which is not sent with it
                result = False, error
            pipe.send(result)


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Processes that are started here ignore Ctrl+C from their first moment on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler if handler is not None else signal.SIG_DFL)


def _name(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
