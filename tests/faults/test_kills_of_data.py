"""`bench`, `repair collect` and the annotation page, killed or out of space at a file operation: nothing is lost."""

import re
from pathlib import Path

import pytest
from faults.file_faults.checks import STATES, Work, failed_and_resumed, killed_and_resumed
from faults.file_faults.choice import chosen
from faults.file_faults.control import Fault
from faults.file_faults.runs import ANNOTATE, BENCH, COLLECT
from faults.file_faults.trials import Commands

from difference_feedback.runs.jsonl import read_rows

pytestmark = pytest.mark.faults
NUMBERS = {"bench": 3, "repair collect": 6, "annotate": 12}
WORKS = (BENCH, COLLECT, ANNOTATE)


@pytest.mark.parametrize("mode", ["kill", "kill half"])
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_what_is_killed_at_a_file_operation_goes_on_bit_for_bit(
    work: Work, mode: str, server: Commands, folder: Path
) -> None:
    number = NUMBERS[work.name] // (2 if mode == "kill half" else 1)
    wrong = killed_and_resumed(work, server, folder, mode, number)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_a_full_disk_is_said_in_a_sentence(work: Work, server: Commands, folder: Path) -> None:
    wrong = failed_and_resumed(work, server, folder, "fail from", NUMBERS[work.name] // 3)
    assert not wrong, "\n".join(wrong)


def test_every_acknowledged_save_is_there_after_a_kill(server: Commands, folder: Path) -> None:
    uninterrupted, _ = ANNOTATE.whole(server, folder)
    for at in chosen(uninterrupted.operations, STATES, 10, seed=2):
        ANNOTATE.fresh(folder)
        killed = ANNOTATE.run(server, folder, Fault("kill", at))
        for word, file in (("saved", "items.annotated.jsonl"), ("reviewed", "reviews.jsonl")):
            acknowledged = re.findall(rf"^{word} (\w+)$", killed.output, re.MULTILINE)
            kept = [row["id"] for row in read_rows(folder / file)]
            assert kept[: len(acknowledged)] == acknowledged
            assert len(kept) <= len(acknowledged) + 1


def test_one_killed_worker_fails_its_cell_alone(server: Commands, folder: Path) -> None:
    """As by the out-of-memory killer: the bench goes on with the other cells, and says which one failed."""
    uninterrupted, expected = BENCH.whole(server, folder)
    first = [at for at, one in enumerate(uninterrupted.operations, 1) if one.path.startswith("cells/base")][3]
    BENCH.fresh(folder)
    killed = BENCH.run(server, folder, Fault("kill", first, alone=True))
    assert killed.fired
    assert killed.code == 2
    assert "Traceback" not in killed.output
    assert [row["method"] for row in read_rows(folder / "results.jsonl")] == ["df"]
    again = BENCH.run(server, folder)
    assert again.code == 0, again.output
    assert {row["method"] for row in read_rows(folder / "results.jsonl")} == {"base", "df"}
    found = BENCH.contents(folder)
    assert found.keys() == expected.keys()
    assert all(found[name] == value for name, value in expected.items() if name.endswith(".safetensors"))
