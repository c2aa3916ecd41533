"""Trials of one command: an uninterrupted run, faults at its operations, the same command again, and what differs."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.file_faults.choice import chosen
from faults.file_faults.compare import contents, differences
from faults.file_faults.control import NOTHING, Fault
from faults.file_faults.trials import Commands, Ending, Operation

STATES = ("open", "write", "rename", "unlink", "mkdir", "rmdir", "link", "truncate", "map")
"""The operations that change what a later process finds. Before a sync it finds the same as after the write."""
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)
SHOWN = 4  # problems of one trial


@dataclass
class Work:
    """A command that is tried: its words for a folder, or `call`, a function of the tests for `words`."""

    name: str
    words: Callable[[Path], list[str]]
    call: str | None = None
    contents: Callable[[Path], dict[str, Any]] = contents
    prepare: Callable[[Path], object] = lambda folder: None
    """What stands in the folder before the command."""
    _whole: dict[Commands, tuple[Ending, dict[str, Any]]] = field(default_factory=dict)

    def run(self, server: Commands, folder: Path, fault: Fault = NOTHING) -> Ending:
        return server.run(folder, self.words(folder), fault, **self._more)

    def whole(self, server: Commands, folder: Path) -> tuple[Ending, dict[str, Any]]:
        """An uninterrupted run, made once: its operations, and what its folder holds."""
        if server not in self._whole:
            self.fresh(folder)
            ending = server.warm(folder, self.words(folder), **self._more)
            assert ending.code == 0, ending.output
            self._whole[server] = ending, self.contents(folder)
        return self._whole[server]

    def fresh(self, folder: Path) -> None:
        """Put the folder into the state before the first run."""
        shutil.rmtree(folder, ignore_errors=True)
        self.prepare(folder)

    def resumed(self, server: Commands, folder: Path, expected: dict[str, Any]) -> list[str]:
        """What is wrong after the same command has gone on in the folder."""
        again = self.run(server, folder)
        if again.code != 0 or "Traceback" in again.output:
            return [f"the same command ends with {again.code}: {again.output.strip()[-600:]}"]
        return differences(expected, self.contents(folder))

    @property
    def _more(self) -> dict[str, Any]:
        return {"call": self.call} if self.call else {}


def killed_and_resumed(work: Work, server: Commands, folder: Path, mode: str, number: int) -> list[str]:
    """Kill `work` at operations, `number` of them by default, and run it again. Returns what is wrong."""
    uninterrupted, expected = work.whole(server, folder)
    wrong: list[str] = []
    for at in chosen(uninterrupted.operations, ("write",) if mode == "kill half" else STATES, number):
        work.fresh(folder)
        killed = work.run(server, folder, Fault(mode, at))
        assert killed.fired, f"operation {at} was not reached: {killed.output}"
        wrong += _note(work, mode, at, uninterrupted.operations[at - 1], work.resumed(server, folder, expected))
    return wrong


def failed_and_resumed(work: Work, server: Commands, folder: Path, mode: str, number: int) -> list[str]:
    """Let writes fail, as on a full disk, and run `work` again with room. Returns what is wrong."""
    uninterrupted, expected = work.whole(server, folder)
    wrong: list[str] = []
    for at in chosen(uninterrupted.operations, ("write",), number, seed=1):
        error = ERRORS[at % len(ERRORS)]
        work.fresh(folder)
        failed = work.run(server, folder, Fault(mode, at, error))
        assert failed.fired, f"operation {at} was not reached: {failed.output}"
        problems = [*said(failed), *work.resumed(server, folder, expected)]
        wrong += _note(work, f"{mode}, {errno.errorcode[error]}", at, uninterrupted.operations[at - 1], problems)
    return wrong


def said(failed: Ending) -> list[str]:
    """What is wrong with how a run ended that could not write: it has to say so in a sentence, and not end with 0."""
    if failed.code == 0:
        return ["the fault is not reported: exit code 0"]
    if "Error: " not in failed.output or "Traceback" in failed.output:
        return [f"no sentence, exit code {failed.code}: {failed.output.strip()[-300:]}"]
    return []


def _note(work: Work, fault: str, at: int, operation: Operation, problems: Sequence[str]) -> list[str]:
    """The problems of a trial, each with its place. A row of every trial goes to the file that DF_FAULTS_LOG names."""
    place = {"run": work.name, "fault": fault, "at": at, "kind": operation.kind, "path": operation.path}
    if path := os.environ.get("DF_FAULTS_LOG"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(place | {"problems": list(problems)}) + "\n")
    shown = [*problems[:SHOWN], *([f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else [])]
    return [f"{work.name}, {fault} at {at} ({operation.kind} {operation.path}): {problem}" for problem in shown]
