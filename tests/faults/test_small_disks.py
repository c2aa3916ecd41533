"""Runs on a real file system of a few megabytes: they end in a sentence, and go on when there is room."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.file_faults.checks import Work, said
from faults.file_faults.choice import ALL
from faults.file_faults.runs import BENCH, COLLECT, RUNS
from faults.file_faults.trials import Commands

pytestmark = pytest.mark.faults
ROOM = "256m"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Callable[[str], object]]]:
    """A file system in memory, and what sets its size; skipped, with the reason, where it cannot be mounted."""
    place = tmp_path_factory.mktemp("disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"left out: a real small disk ({mounted.stderr.decode().strip()}); the other tests let writes fail")

    def resize(size: str) -> object:
        return subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)

    yield place, resize
    subprocess.run(["umount", place], check=True)


CASES = [
    *((work, size) for work in RUNS for size in (("4k", "3m", "7m", "12m", "16m", "20m") if ALL else ("3m",))),
    *((BENCH, size) for size in (("8k", "3m", "12m") if ALL else ("3m",))),
    *((COLLECT, size) for size in (("4k", "12k", "24k") if ALL else ("12k",))),
]


@pytest.mark.parametrize(("work", "size"), CASES, ids=lambda value: getattr(value, "name", value))
def test_a_run_without_room_says_so_and_goes_on_with_room(
    work: Work, size: str, server: Commands, disk: tuple[Path, Callable[[str], object]]
) -> None:
    place, resize = disk
    folder = place / "run"
    resize(ROOM)
    _, expected = work.whole(server, folder)
    work.fresh(folder)
    resize(size)
    failed = work.run(server, folder)
    resize(ROOM)
    if failed.code:  # where it fits, it ends as it should
        assert not said(failed)
    assert os.statvfs(place).f_bavail
    wrong = work.resumed(server, folder, expected)
    assert not wrong, "\n".join(wrong)
