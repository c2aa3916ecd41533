"""Eight ranks that start together on one folder."""

import json
from pathlib import Path

import pytest
from launch import HERE, torchrun

from difference_feedback.runs.jsonl import read_rows

pytestmark = pytest.mark.distributed


def test_eight_ranks_open_a_folder_twenty_times_of_twenty(tmp_path: Path) -> None:
    """Fresh, resumed, refused on all ranks, and with `overwrite`."""
    done = torchrun(8, HERE / "open_runs.py", tmp_path, 20)
    assert done.returncode == 0, done.stderr[-4000:]


def test_eight_ranks_share_an_evaluation(tmp_path: Path) -> None:
    """The command itself, as a user starts it: fewer batches than ranks, one table, one file."""
    words = ["evaluate", "nano_evaluate", "evaluation.problems=15", "evaluation.batch_size=3", "--output"]
    done = torchrun(8, "-m", "difference_feedback.cli", *words, tmp_path / "run")
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("held-out problems") == 1
    rows = read_rows(tmp_path / "run" / "predictions.jsonl")
    assert len(rows) == json.loads((tmp_path / "run" / "summary.json").read_text())["problems"] == 15
    again = torchrun(2, "-m", "difference_feedback.cli", *words, tmp_path / "run")
    assert again.stdout.count("is finished already") == 1
