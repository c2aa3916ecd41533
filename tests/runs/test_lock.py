"""One process at a time works in a run's folder. The lock ends with its process, however that ends."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from difference_feedback.cli import _message
from difference_feedback.errors import ConfigError
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import JsonLines
from difference_feedback.runs.lock import check_free, hold, holding
from difference_feedback.runs.recipes import EvaluateRecipe

HOLD = """
import sys
from pathlib import Path
from difference_feedback.runs.lock import hold
held = hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""
OPEN = """
import sys
from difference_feedback.errors import ConfigError
from difference_feedback.runs.folder import Run
from difference_feedback.runs.recipes import EvaluateRecipe
sys.stdin.readline()
try:
    run = Run(sys.argv[1], EvaluateRecipe(), overwrite=len(sys.argv) > 2)
    print("opened", flush=True)
except ConfigError as error:
    print(error, flush=True)
sys.stdin.read()
"""


def start(code: str, folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(folder), *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    other = start(HOLD, tmp_path)
    assert line_of(other) == "held"
    for attempt in (lambda: hold(tmp_path), lambda: check_free(tmp_path), lambda: Run(tmp_path, EvaluateRecipe())):
        with pytest.raises(ConfigError, match=rf"{tmp_path}.*process {other.pid} on .*--output"):
            attempt()
    other.send_signal(signal.SIGKILL)
    other.communicate()
    run = Run(tmp_path, EvaluateRecipe())
    assert Run(tmp_path, EvaluateRecipe()).folder == run.folder, "a process does not refuse itself"
    again = start(OPEN, tmp_path)
    assert again.stdin is not None
    again.stdin.write("go\n")
    again.stdin.flush()
    assert f"process {os.getpid()}" in line_of(again)
    end(again)


def test_a_folder_is_free_once_the_last_hold_on_it_is_given_back(tmp_path: Path) -> None:
    run = Run(tmp_path, EvaluateRecipe())
    with holding(tmp_path):
        pass
    other = start(HOLD, tmp_path)
    assert line_of(other) == "", "the run goes on"
    end(other)
    run.close()
    other = start(HOLD, tmp_path)
    assert line_of(other) == "held"
    end(other)


@pytest.mark.parametrize("words", [(), ("--overwrite",)])
def test_of_eight_processes_that_start_at_once_one_gets_the_folder(tmp_path: Path, words: tuple[str, ...]) -> None:
    folder = tmp_path / "run"
    if words:
        Run(folder, EvaluateRecipe(seed=1)).log(step=1)
    processes = [start(OPEN, folder, *words) for _ in range(8)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    lines = [line_of(process) for process in processes]
    for process in processes:
        end(process)
    assert sorted(line == "opened" for line in lines) == [False] * 7 + [True], lines
    assert all("another run is at work" in line for line in lines if line != "opened")


def test_a_file_system_without_locks_is_reported_once_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for code in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):

        def refuse(*_: object, code: int = code) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", refuse)
        folder = tmp_path / str(code)
        folder.mkdir()
        first, second = hold(folder), hold(folder)
        assert capsys.readouterr().err.count("has no locks") == 1
        second.release()
        first.release()
    monkeypatch.undo()


def test_without_locks_rows_are_added_and_nothing_waits_for_a_process_that_was_killed(
    tmp_path: Path, no_locks: None, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = JsonLines(tmp_path / "rows.jsonl")
    child = os.fork()
    if child == 0:
        try:
            JsonLines(rows.path).lock.acquire()
        finally:
            os._exit(9)
    os.waitpid(child, 0)
    with rows.lock:
        rows.append({"id": 1})
    JsonLines(rows.path).append({"id": 2})
    hold(tmp_path).release()
    assert [row.values["id"] for row in rows.read()[0]] == [1, 2]
    assert capsys.readouterr().err.count(f"{tmp_path}: this file system has no locks") == 1


def test_a_folder_that_cannot_be_made_or_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file.*--output"), holding(tmp_path / "file" / "folder"):
        pass
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / ".lock").mkdir()
    with pytest.raises(ConfigError, match=r"odd.*--output"):
        hold(tmp_path / "odd")


@pytest.mark.parametrize("new_run", [True, False])
def test_a_run_whose_folder_is_moved_or_removed_writes_nothing_more(tmp_path: Path, new_run: bool) -> None:
    """Its results would be torn apart, or mixed with those of the next run at that place."""
    place, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run = Run(place, EvaluateRecipe())
    run.log(step=1)
    place.rename(elsewhere)
    other = None
    if new_run:
        other = start(OPEN, place)
        assert other.stdin is not None
        other.stdin.write("go\n")
        other.stdin.flush()
        assert line_of(other) == "opened"
    for write in (lambda: run.log(step=2), lambda: run.finish({"accuracy": 0.5})):
        with pytest.raises(ConfigError, match="moved or removed"):
            write()
    missing = FileNotFoundError(errno.ENOENT, "No such file", str(place / "model.safetensors"))
    assert "moved or removed" in (_message(missing) or ""), "what a library fails with first"
    assert place.exists() == new_run
    if other:
        assert not (place / "metrics.jsonl").exists()
        end(other)
        shutil.rmtree(place)
    elsewhere.rename(place)
    run.log(step=2)
    assert [row["step"] for row in run.metrics()] == [1, 2]
    run.close()
