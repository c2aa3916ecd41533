"""Rows that several processes work on: the same results in the same order, and clear ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import islice

import pytest

from difference_feedback.errors import DataError, FieldError
from difference_feedback.runs import row_work, workers
from difference_feedback.runs.jsonl import Row, iterate_input
from difference_feedback.runs.row_work import work_on_input
from difference_feedback.runs.workers import in_order, usable_cores

LINES = "".join(f'{{"n": {n}}}\n' if n % 7 else '\n{"n": \n{"n": "\\ud83d"}\n' for n in range(400))


def same(row):
    return row, os.getpid()


def fall(by, number):
    if number == 25:
        by()
    return number


def raise_value_error():
    raise ValueError("25")


def raise_field_error():
    raise FieldError("image", "25")


def end_by_exit():
    os._exit(3)


def end_by_signal():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """A file of many small parts."""
    monkeypatch.setattr(row_work, "_PART", 200)
    path = tmp_path / "rows.jsonl"
    path.write_text(LINES, encoding="utf-8")
    return path


def test_all_rows_come_in_their_order_whoever_works_on_them(rows):
    expected = list(iterate_input(rows))
    alone, together = ([*work_on_input(rows, same, jobs)] for jobs in (1, 2))
    assert [row for row, _ in alone] == [row for row, _ in together] == expected
    assert {process for _, process in alone} == {os.getpid()}
    assert len({process for _, process in together}) == 3  # the two, and this one at the start
    assert not [row for row in expected if isinstance(row, Row) and row.values["n"] % 7 == 0]


@pytest.mark.parametrize("text", ["", "no JSON\n" * 999])
def test_a_file_without_rows_is_refused_as_before(rows, text):
    rows.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as alone:
        list(iterate_input(rows))
    with pytest.raises(DataError) as together:
        list(work_on_input(rows, same, 2))
    assert str(alone.value) == str(together.value)


@pytest.mark.parametrize(
    ("by", "error", "remedy"),
    [
        (raise_value_error, ValueError, "25"),
        (raise_field_error, FieldError, "25"),
        (end_by_signal, DataError, "SIGKILL.*memory.*--jobs"),
        (end_by_exit, DataError, "exit code 3.*__main__.*--jobs"),
    ],
)
def test_what_ends_a_process_ends_the_work(by, error, remedy):
    results = in_order(partial(fall, by), range(40), 2)
    assert list(islice(results, 20)) == list(range(20))
    with pytest.raises(error, match=remedy):
        list(results)


class Meeting:
    """Work that each process has loaded only when as many processes as `count` load it."""

    def __init__(self, folder, count):
        self.folder, self.count = folder, count

    def __setstate__(self, state):
        vars(self).update(state)
        (self.folder / str(os.getpid())).touch()
        until(lambda: len(list(self.folder.iterdir())) >= self.count, seconds=20)

    def __call__(self, part):
        return len(part)


def test_processes_load_their_work_at_the_same_time(tmp_path):
    """Loading takes seconds where it imports much. The parts are larger than what a pipe holds."""
    parts = (b"x" * 10**6 for _ in range(30))
    assert list(in_order(Meeting(tmp_path, 3), parts, 3)) == [10**6] * 30


def test_no_process_outlives_the_work():
    results = in_order(str, range(10**9), 2)
    assert list(islice(results, 20)) == [str(n) for n in range(20)]
    assert len(multiprocessing.active_children()) == 2
    results.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_command_that_is_stopped_leaves_no_process_and_no_file(tmp_path, number):
    """Ctrl+C reaches every process of the terminal's group at once."""
    source, output = tmp_path / "rows.jsonl", tmp_path / "graded.jsonl"
    row = '{"response": "' + "x = 5. " * 200 + '", "answer": "5"}\n'
    source.write_text(row * 20_000, encoding="utf-8")
    command = [sys.executable, "-m", "difference_feedback.cli", "grade", str(source), "-o", str(output), "--jobs", "2"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    until(lambda: len(in_group(process.pid)) >= 4)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, said = process.communicate(timeout=60)
    until(lambda: not in_group(process.pid))
    assert not output.exists()
    assert "Traceback" not in said
    assert process.returncode == 130 if number == signal.SIGINT else -number


def heed_interrupts():
    """A suite in a shell's background inherits that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def in_group(group):
    text = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True).stdout
    rows = [line.split() for line in text.splitlines()]
    return [state for pgid, state in rows if int(pgid) == group and not state.startswith("Z")]


def test_cores_are_those_of_the_container(tmp_path, monkeypatch):
    own = len(os.sched_getaffinity(0))
    for text, cores in (("max 100000", own), ("100000 100000", 1), ("50000 100000", 1), ("99900000 100000", own)):
        (tmp_path / "cpu.max").write_text(text)
        monkeypatch.setattr(workers, "_QUOTAS", (str(tmp_path / "cpu.max"), "none", "none"))
        assert usable_cores() == cores
