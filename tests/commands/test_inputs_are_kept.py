"""No command writes over a file that it reads, under whatever name it is given."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from difference_feedback.cli import app

ROWS = {
    "mask": {"id": "a", "wrong": "it is 3", "repaired": "it is 4"},
    "grade": {"response": "The answer is 3.", "answer": "3"},
    "annotate": {"id": "a", "question": "q", "draft": "d"},
}


def same(path: Path) -> Path:
    return path


def symbolic(path: Path) -> Path:
    link = path.with_name("symbolic.jsonl")
    link.symlink_to(path)
    return link


def hard(path: Path) -> Path:
    link = path.with_name("hard.jsonl")
    link.hardlink_to(path)
    return link


def roundabout(path: Path) -> Path:
    return path.parent / ".." / path.parent.name / path.name


NAMES = [same, symbolic, hard, roundabout]


def refused(*words: object) -> str:
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 2, result.output
    return result.stderr


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.__name__)
@pytest.mark.parametrize("command", ROWS)
def test_the_output_is_not_the_input(tmp_path: Path, command: str, name: Callable[[Path], Path]) -> None:
    path = tmp_path / "own.jsonl"
    text = json.dumps(ROWS[command]) + "\n"
    path.write_text(text)
    assert "--output" in refused(command, path, "-o", name(path))
    if command == "mask":
        assert "--html" in refused(command, path, "-o", tmp_path / "m.jsonl", "--html", path)
        assert "--html" in refused(command, path, "-o", tmp_path / "m.jsonl", "--html", tmp_path / "m.jsonl")
    assert path.read_text() == text


def test_the_items_are_not_what_they_are_made_from(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text("{}\n")
    (tmp_path / "other.jsonl").write_text("{}\n")
    for data, responses in ((path, tmp_path / "other.jsonl"), (tmp_path / "other.jsonl", path)):
        assert "items.jsonl" in refused("repair", "collect", data, "-r", responses, "-o", tmp_path)
    path.rename(tmp_path / "responses.jsonl")
    assert "responses.jsonl" in refused(
        "repair", "collect", tmp_path / "responses.jsonl", "--model", "nano", "-o", tmp_path
    )


def test_a_report_is_no_file_of_its_runs(tmp_path: Path) -> None:
    (tmp_path / "run" / "part").mkdir(parents=True)
    path = tmp_path / "run" / "part" / "metrics.jsonl"
    path.write_text("{}\n")
    assert "--output" in refused("report", tmp_path / "run", "-o", path)


@pytest.mark.parametrize("command", [["train"], ["repair", "sft"], ["repair", "rl"], ["evaluate"]])
def test_what_a_run_reads_is_not_removed_by_overwrite(tmp_path: Path, command: list[str]) -> None:
    folder = tmp_path / "run"
    (folder / "model").mkdir(parents=True)
    (folder / "config.yaml").write_text("kind: train\n")
    error = refused(*command, f"model={folder / 'model'}", "-o", folder, "--overwrite")
    assert "--overwrite" in error
    assert "model" in error
    assert (folder / "config.yaml").is_file()
