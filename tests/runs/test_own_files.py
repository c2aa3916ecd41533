"""`--overwrite` removes all that a run wrote, and nothing that people made; a kill at any moment does no harm."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from difference_feedback.errors import ConfigError
from difference_feedback.runs import own_files
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import JsonLines, read_rows, write_jsonl
from difference_feedback.runs.recipes import EvaluateRecipe, TrainRecipe

PICTURE = "images/7-0123456789-0.png"


class Killed(BaseException):
    """What ends a process at once: no handler for errors catches it."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`kill_at(n)`: the process ends right before its n-th change of a file or folder from now on."""
    left = [10**9]

    def dying(change: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return change(*args, **kwargs)

        return call

    for name in ("unlink", "rename", "replace", "rmdir", "mkdir", "fsync"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))

    def set_(count: int) -> None:
        left[0] = count

    yield set_
    monkeypatch.undo()


def old_run(folder: Path, people: bool) -> None:
    """A finished run, a part of it, a user's own files, and perhaps what people made."""
    run = Run(folder, TrainRecipe(seed=1))
    run.log(step=1, reward=0.5)
    write_jsonl(folder / "items.jsonl", [{"id": "7", "image": [PICTURE], "draft": "a"}])
    part = Run(folder / "shared" / "repair_rl-1234", EvaluateRecipe())
    for place in (folder, part.folder):
        for name in (PICTURE, "images/example-1-0.png", "audit_images/0123456789ab.png", "model/model.safetensors"):
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(name.encode())
    JsonLines(part.folder / "audits.jsonl").append({"id": "1"})
    (run.checkpoints / "checkpoint-1").mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "images" / "holiday.png").write_text("mine")
    if people:
        JsonLines(folder / "items.annotated.jsonl").append({"id": "7", "image": [PICTURE], "repaired": "b"})
        JsonLines(part.folder / "reviews.jsonl").append({"id": "1", "verdict": "clean"})
    run.finish({"accuracy": 0.5})
    part.close()
    run.close()


def files_of(folder: Path) -> set[str]:
    always = {".lock", ".holder", "config.yaml", "versions.json"}
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - always


@pytest.mark.parametrize("people", [False, True])
def test_all_of_the_old_run_goes_and_what_people_made_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], people: bool
) -> None:
    folder = tmp_path / "run"
    old_run(folder, people)
    again = Run(folder, TrainRecipe(seed=2), overwrite=True)
    assert not again.resumed
    assert not again.finished
    users = {"notes.txt", "images/holiday.png"}
    if not people:
        assert files_of(folder) == users
        return
    kept = folder / "annotated" / "1"
    assert str(kept) in capsys.readouterr().err
    assert (kept / "images" / "holiday.png").is_file(), "the pictures move as they are"
    assert read_rows(kept / "items.annotated.jsonl")[0]["repaired"] == "b"
    assert (kept / PICTURE).is_file()
    reviews = kept / "shared" / "repair_rl-1234" / "reviews.jsonl"
    assert reviews.is_file()
    assert reviews.with_name("audits.jsonl").is_file()
    rest = {name for name in files_of(folder) if not name.startswith("annotated/")}
    assert rest == {"notes.txt"}
    again.log(step=1)
    JsonLines(folder / "items.annotated.jsonl").append({"id": "8"})
    third = Run(folder, TrainRecipe(seed=3), overwrite=True)
    assert (folder / "annotated" / "2" / "items.annotated.jsonl").is_file()
    assert (kept / "items.annotated.jsonl").is_file()
    assert third.metrics() == []


def test_a_kill_while_a_run_is_removed_is_made_good_by_the_same_command(tmp_path: Path, kill_at: Any) -> None:
    """At each change of a file: what people made is there in the end, and nothing of the old run."""
    start, whole = tmp_path / "start", tmp_path / "whole"
    old_run(start, people=True)
    shutil.copytree(start, whole)
    Run(whole, TrainRecipe(seed=2), overwrite=True).close()
    expected, count, ended = files_of(whole), 0, False
    while not ended:
        folder = tmp_path / "run"
        shutil.copytree(start, folder)
        kill_at(count)
        try:
            Run(folder, TrainRecipe(seed=2), overwrite=True).close()
            ended = True
        except Killed:
            pass
        finally:
            kill_at(10**9)
        run = Run(folder, TrainRecipe(seed=2), overwrite=True)
        assert files_of(folder) == expected, count
        assert not run.finished
        assert run.metrics() == []
        run.close()
        shutil.rmtree(folder)
        count += 1
    assert count > 20


def test_a_kill_while_a_run_starts_is_made_good_by_the_same_command(tmp_path: Path, kill_at: Any) -> None:
    count, ended = 0, False
    while not ended:
        folder = tmp_path / str(count)
        kill_at(count)
        try:
            Run(folder, TrainRecipe())
            ended = True
        except Killed:
            pass
        finally:
            kill_at(10**9)
        assert not Run(folder, TrainRecipe()).resumed
        assert not any(".partial" in path.name for path in folder.iterdir())
        count += 1
    assert count > 5


def test_a_file_that_a_killed_process_was_writing_is_no_reason_to_refuse_the_folder(tmp_path: Path) -> None:
    for name in (".config.yaml.0a1b2c3d.partial", ".versions.json.0a1b2c3d.partial", ".lock"):
        (tmp_path / name).write_text("half")
    (tmp_path / "checkpoints").mkdir()
    Run(tmp_path, TrainRecipe())
    assert not list(tmp_path.glob(".*.partial"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.partial").write_text("mine")
    with pytest.raises(ConfigError, match="holds no run"):
        Run(tmp_path / "other", TrainRecipe())


def test_links_are_removed_and_what_they_lead_to_stays(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "disk"
    Run(folder, TrainRecipe(seed=1)).log(step=1)
    (elsewhere / "checkpoint-1").mkdir(parents=True)
    shutil.rmtree(folder / "checkpoints")
    (folder / "checkpoints").symlink_to(elsewhere)
    (elsewhere / "metrics.jsonl").write_text("{}\n")
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").symlink_to(elsewhere / "metrics.jsonl")
    run = Run(folder, TrainRecipe(seed=2), overwrite=True)
    assert run.last_checkpoint() is None
    assert run.metrics() == []
    assert sorted(path.name for path in elsewhere.iterdir()) == ["checkpoint-1", "metrics.jsonl"]


def test_every_name_on_the_lists_is_one_that_the_package_writes() -> None:
    source = "\n".join(path.read_text() for path in Path(own_files.__file__).parents[1].rglob("*.py"))
    other = source.replace(Path(own_files.__file__).read_text(), "")
    for name in own_files.FILES - {"requests.jsonl.partial"}:
        assert f'"{name}"' in other, name
