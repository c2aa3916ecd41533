"""Run a server for another process, and stop it with everything that it started when that process is gone.

`python -I watchdog.py COMMAND...` is a program of its own, so that the server ends even where its owner was killed. The
owner holds the other end of its standard input: when that closes, or the owner is no longer the parent, or SIGTERM
comes, the server's whole process group is ended. The exit status is the server's.
"""

import os
import select
import signal
import subprocess
import sys
import time

STOP_SECONDS = 20.0
"""From SIGTERM to SIGKILL."""
_POLL_SECONDS = 0.5


def run(command: list[str]) -> int:
    owner = os.getppid()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit())  # and so to `finally`
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        while server.poll() is None and os.getppid() == owner:
            if select.select([sys.stdin], [], [], _POLL_SECONDS)[0]:  # nobody writes there: it was closed
                break
    finally:
        stop_group(server)
    return server.returncode


def stop_group(server: "subprocess.Popen[bytes]") -> None:
    """End the processes of `server`'s group, also those that outlive it."""
    deadline = time.monotonic() + STOP_SECONDS
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
        except ProcessLookupError:
            break
        while time.monotonic() < deadline and (server.poll() is None or _has_members(server.pid)):
            time.sleep(0.05)
    server.wait()


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
