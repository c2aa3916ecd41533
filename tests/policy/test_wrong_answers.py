"""Wrong answers of a training run, kept for people to repair."""

import pytest
import torch
from overwritten import left_after_overwriting

from difference_feedback import world
from difference_feedback.annotate.items import find_work
from difference_feedback.policy.train import train
from difference_feedback.policy.wrong_answers import WrongAnswers
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import read_rows
from difference_feedback.runs.loading import load_recipe
from difference_feedback.runs.recipes import TrainRecipe


@pytest.fixture
def rows():
    return [row for row in world.to_dataset(world.sample_problems("rl", 3, 0)) for _ in range(3)]


def test_one_wrong_answer_a_question_with_a_right_one(tmp_path, rows):
    keep = WrongAnswers(tmp_path, 5, rule="mine.py:f")
    nan = float("nan")
    rewards = torch.tensor([[1.0], [0.0], [0.0], [1.0], [1.0], [1.0], [0.0], [nan], [0.0]])
    completions = [[{"role": "assistant", "content": f"text {i}"}] for i in range(9)]
    keep(rows, completions, rewards)
    [item] = read_rows(tmp_path / "items.jsonl")
    assert (item["draft"], item["reference"], item["answer"]) == ("text 1", "text 0", rows[0]["answer"])
    assert item["question"] == rows[0]["prompt"][-1]["content"][-1]["text"]
    assert (tmp_path / item["image"][0]).is_file()
    assert item["rule"] == "mine.py:f"
    again = WrongAnswers(tmp_path, 5)  # the run is resumed
    again(rows, completions, rewards)
    assert len(read_rows(tmp_path / "items.jsonl")) == 1
    repairs, _ = find_work(tmp_path)
    assert repairs.problems == []


def test_no_more_than_asked_for(tmp_path, rows):
    WrongAnswers(tmp_path, 2)(rows, ["a"] * 9, torch.tensor([[1.0], [0.0], [0.0]] * 3))
    assert len(read_rows(tmp_path / "items.jsonl")) == 2


def test_a_right_answer_is_not_wrong_by_rounding(tmp_path, rows):
    """float32(0.9) is less than 0.9."""
    WrongAnswers(tmp_path, 5, threshold=0.9)(rows, ["a"] * 9, torch.tensor([[0.9], [0.0], [0.0]] * 3))
    assert len(read_rows(tmp_path / "items.jsonl")) == 3


def test_a_run_keeps_them_for_the_page(tmp_path):
    small = ["problems=16", "evaluation.problems=4", "evaluation.max_new_tokens=8", "keep_wrong_answers=3"]
    trl = ["trl.max_steps=1", "trl.per_device_train_batch_size=64", "trl.save_steps=1000", "trl.num_generations=8"]
    recipe = load_recipe("nano_grpo", TrainRecipe, [*small, *trl])
    run = Run(tmp_path / "run", recipe)
    train(recipe, run)
    assert {"items.jsonl", "images"} <= {path.name for path in run.folder.iterdir()}
    assert left_after_overwriting(run) == set()
    repairs, _ = find_work(tmp_path / "run")
    assert 1 <= len(repairs.rows) <= 3
    for row in repairs.rows:
        assert row["rule"] == "embedded"
        assert row["draft"].rpartition("answer")[2].split() != row["answer"].split()
        assert row["reference"].rpartition("answer")[2].split() == row["answer"].split()
