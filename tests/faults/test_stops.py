"""Training runs that are stopped: by Ctrl+C, by SIGTERM, by SIGKILL at any time, and again while they go on."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from faults.file_faults.checks import STATES
from faults.file_faults.choice import ALL, chosen
from faults.file_faults.compare import contents, differences
from faults.file_faults.control import Fault
from faults.file_faults.runs import REPAIR_SFT, RUNS, TRAIN, Work
from faults.file_faults.trials import Commands, Ending

pytestmark = pytest.mark.faults


def stopped(work: Work, server: Commands, folder: Path, by: signal.Signals, wait_for: str, seconds: float) -> Ending:
    """Start `work`, wait until a file of this name is there and `seconds` more, and send the signal to its process."""
    child = server.start(folder, work.words(folder))
    end = time.monotonic() + 60
    while not list(folder.rglob(wait_for)) and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(seconds)
    os.kill(child, by)
    return server.wait(child, folder)


@pytest.mark.parametrize("wait_for", ["config.yaml", "checkpoint-2", "model"])
@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("work", RUNS if ALL else [TRAIN], ids=lambda work: work.name)
def test_a_stopped_run_says_so_and_goes_on(
    work: Work, by: signal.Signals, code: int, wait_for: str, server: Commands, folder: Path
) -> None:
    _, expected = work.whole(server, folder)
    work.fresh(folder)
    ending = stopped(work, server, folder, by, wait_for, 0.0)
    assert ending.code == code, ending.output
    assert "Traceback" not in ending.output
    assert "The same command continues" in ending.output
    assert not work.resumed(server, folder, expected)


@pytest.mark.parametrize("work", RUNS, ids=lambda work: work.name)
def test_a_run_killed_at_any_time_resumes_bit_for_bit(work: Work, server: Commands, folder: Path) -> None:
    _, expected = work.whole(server, folder)
    work.fresh(folder)
    start = time.monotonic()
    work.run(server, folder)
    whole = time.monotonic() - start
    draw, wrong = random.Random(0), []
    for _ in range(40 if ALL else 3):
        seconds = draw.uniform(0, 1.1) * whole
        work.fresh(folder)
        child = server.start(folder, work.words(folder))
        time.sleep(seconds)
        os.killpg(child, signal.SIGKILL)
        server.wait(child, folder)
        wrong += [f"{seconds:.3f} s: {problem}" for problem in work.resumed(server, folder, expected)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("work", [TRAIN, REPAIR_SFT], ids=lambda work: work.name)
def test_a_run_killed_again_while_it_goes_on_resumes_bit_for_bit(work: Work, server: Commands, folder: Path) -> None:
    uninterrupted, expected = work.whole(server, folder)
    draw, wrong = random.Random(1), []
    for first in chosen(uninterrupted.operations, STATES, 3, seed=3):
        work.fresh(folder)
        work.run(server, folder, Fault("kill", first))
        second = draw.randint(1, len(uninterrupted.operations) - first + 1)
        work.run(server, folder, Fault("kill half", second))
        problems = work.resumed(server, folder, expected)
        wrong += [f"killed at {first} and {second}: {problem}" for problem in problems]
    assert not wrong, "\n".join(wrong)


def test_a_run_killed_while_it_overwrites_another_is_the_new_run_or_the_old_one(server: Commands, folder: Path) -> None:
    """With the same words again, the new run is whole; whatever was left of the old one is gone."""
    other = Work("train, seed 1", lambda folder: [*TRAIN.words(folder), "seed=1", "keep_wrong_answers=2"])
    _, expected = other.whole(server, folder)
    TRAIN.fresh(folder)
    TRAIN.run(server, folder)
    again = [*other.words(folder), "--overwrite"]
    operations = server.run(folder, again).operations
    assert not differences(expected, contents(folder))
    wrong = []
    for at in chosen(operations, STATES, 4, seed=4):
        TRAIN.fresh(folder)
        TRAIN.run(server, folder)
        server.run(folder, again, Fault("kill", at))
        ending = server.run(folder, again)
        problems = differences(expected, contents(folder)) if ending.code == 0 else [ending.output.strip()[-300:]]
        wrong += [f"killed at {at} ({operations[at - 1]}): {problem}" for problem in problems[:4]]
    assert not wrong, "\n".join(wrong)
