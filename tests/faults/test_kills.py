"""Training runs that are killed, or whose disk is full, at a file operation: resumed, they equal one that was not.

Every trial is a real run on the nano model, in a process that a C library watches; see `file_faults`. By default a part
of the operations is tried; `DF_FAULTS=all` tries all of them.
"""

from pathlib import Path

import pytest
from faults.file_faults.checks import Work, failed_and_resumed, killed_and_resumed
from faults.file_faults.runs import RUNS
from faults.file_faults.trials import Commands

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("mode", ["kill", "kill half"])
@pytest.mark.parametrize("work", RUNS, ids=lambda work: work.name)
def test_a_run_killed_at_a_file_operation_resumes_bit_for_bit(
    work: Work, mode: str, server: Commands, folder: Path
) -> None:
    wrong = killed_and_resumed(work, server, folder, mode, 2 if mode == "kill half" else 6)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("mode", ["fail from", "fail once"])
@pytest.mark.parametrize("work", RUNS, ids=lambda work: work.name)
def test_a_full_disk_ends_a_run_in_a_sentence_and_it_resumes_bit_for_bit(
    work: Work, mode: str, server: Commands, folder: Path
) -> None:
    wrong = failed_and_resumed(work, server, folder, mode, 2 if mode == "fail from" else 1)
    assert not wrong, "\n".join(wrong)
