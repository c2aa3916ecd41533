"""Whether two mathematical expressions are the same, by math-verify, with a time limit that holds anywhere.

math-verify's own limit is a signal, which works on the main thread alone. Here it runs in a process of its own, which
is ended when an answer takes too long (`9^{9^{9^9}}` would take forever), and started anew for the next one.
"""

import atexit
import json
import queue
import subprocess
import sys
import threading
from functools import lru_cache
from typing import Literal

Verdict = Literal["equal", "different", "too slow", "unreadable"]
LONGEST = 300  # characters: longer answers are no expressions that anyone would grade by rule
_START = 120.0  # seconds to start, with sympy to import on a slow disk


class MathProcess:
    """The process; it starts with the first question. Safe to use from several threads, which take turns."""

    def __init__(self, seconds: float = 3.0) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str] = queue.Queue()

    def compare(self, answer: str, truth: str) -> Verdict:
        """Compare two expressions, LaTeX or plain, within `seconds`."""
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
            except OSError:  # it has died
                self.stop()
                return "unreadable"
        verdict: Verdict = json.loads(line) if line else "unreadable"
        if not line:
            self.stop()
        return verdict

    def stop(self) -> None:
        """End the process; the next question starts another."""
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
            self._lines.get(timeout=_START)  # it says when it is ready, so that starting counts against no answer
        return self._process


def _pass_on(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    """Each line that the process writes; an empty one when it ends."""
    for line in process.stdout:  # type: ignore[union-attr]
        lines.put(line)
    lines.put("")


_shared = MathProcess()
atexit.register(_shared.stop)


@lru_cache(maxsize=65_536)
def compare_expressions(answer: str, truth: str) -> Verdict:
    """Compare with this program's one math process."""
    return _shared.compare(answer, truth)
