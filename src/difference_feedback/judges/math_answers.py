"""Compare two mathematical expressions by math-verify, with a time limit that works on every thread.

math-verify's own time limit uses a signal, which works on the main thread only. Here math-verify runs in a separate
process. The process is killed when an answer takes too long (`9^{9^{9^9}}` would never end) and restarted for the next.
"""

import atexit
import json
import queue
import subprocess
import sys
import threading
from functools import lru_cache
from typing import Literal

Comparison = Literal["equal", "different", "too slow", "unreadable"]
LONGEST = 300  # characters: longer answers are not compared as expressions
_START = 120.0  # seconds for the start, which imports sympy, perhaps from a slow disk


class MathProcess:
    """The separate process. It starts with the first comparison. Several threads may use it; they take turns."""

    def __init__(self, seconds: float = 3.0) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    def compare(self, answer: str, truth: str) -> Comparison:
        """Compare two expressions, in LaTeX or plain text, within `seconds`."""
        if max(len(answer), len(truth)) > LONGEST:
            return "unreadable"
        with self._lock:
            try:
                process = self._running()
                process.stdin.write(json.dumps([answer, truth]) + "\n")  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
                line = self._lines.get(timeout=self.seconds)
            except queue.Empty:
                self.stop()
                return "too slow"
            except OSError:  # the process has ended
                self.stop()
                return "unreadable"
        verdict: Comparison = json.loads(line) if line else "unreadable"
        if not line:
            self.stop()
        return verdict

    def stop(self) -> None:
        """End the process; the next comparison starts a new one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-m", "difference_feedback.judges.math_worker"]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self._process = subprocess.Popen(command, text=True, encoding="utf-8", **pipes)  # type: ignore[call-overload]
            self._lines = queue.Queue()
            threading.Thread(target=_pass_on, args=(self._process, self._lines), daemon=True).start()
            self._lines.get(timeout=_START)  # wait until it is ready: the start does not count for an answer's limit
        return self._process


def _pass_on(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    """Put each line that the process writes into the queue, and an empty line when the process ends."""
    for line in process.stdout:  # type: ignore[union-attr]
        lines.put(line)
    lines.put("")


_shared = MathProcess()
atexit.register(_shared.stop)


@lru_cache(maxsize=65_536)
def compare_expressions(answer: str, truth: str) -> Comparison:
    """Compare two expressions in the math process that this program shares."""
    return _shared.compare(answer, truth)
