"""Of the processes of a launch on one machine, one looks at the rows and at the images; the others take its result."""

import json
import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from data.forms import base64_of, picture

from difference_feedback.data import pictures
from difference_feedback.data.dataset import load_data
from difference_feedback.data.once import once_a_machine
from difference_feedback.runs.sections import Data


def measured_by(path: str, rank: int, results: Any) -> None:
    """One rank: how many images it has measured, and what it has loaded."""
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_PORT": "29999"}
    measured = []
    measure = pictures.measure_image
    pictures.measure_image = lambda *args, **settings: measured.append(args) or measure(*args, **settings)
    loaded = load_data(Data(path=path))
    colors = [image.getpixel((1, 1)) for question in loaded.questions() for image in question.images]
    problems = [str(problem) for problem in loaded.problems]
    results.put((len(measured), colors, problems, dict(loaded.notes), loaded.sizes, len(loaded.for_training())))


def test_without_locks_each_rank_does_the_work_itself(
    tmp_path: Path, no_locks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert once_a_machine("key", Path.touch) is None


@pytest.mark.parametrize("inline", [False, True])
def test_one_rank_measures_for_all(tmp_path: Path, inline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    picture("red").convert("RGBA").save(tmp_path / "red.png")
    images = ["red.png", base64_of("blue") if inline else "red.png", "none.png"]
    rows = [{"question": "How many?", "image": image, "answer": "3"} for image in images]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    ranks = [context.Process(target=measured_by, args=(str(tmp_path / "rows.jsonl"), i, results)) for i in range(2)]
    for rank in ranks:
        rank.start()
    first, second = (results.get(timeout=60) for _ in ranks)
    for rank in ranks:
        rank.join()
    assert sorted([first[0], second[0]]) == [0, 2], "the third file is not there"
    assert first[1:] == second[1:]
    assert len(first[1]) == 2
    assert len(first[2]) == 1
