"""The examples run, and do what they say."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from difference_feedback.annotate.items import find_work
from difference_feedback.runs.jsonl import write_jsonl

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def method():
    return load("whole_method")


def test_reward_looks_at_the_last_number_alone(method):
    digits = np.array([3, 8, 2])
    assert method.reward(digits, method.encode("3+8=11+2=13;")) == 1
    assert method.reward(digits, method.encode("2+8=10+3=13;")) == 1
    assert method.reward(digits, method.encode("3+8=11+1=12;")) == 0
    assert method.reward(digits, method.encode("3+8=11+2=13")) == 0
    assert method.reward(digits, []) == 0


@pytest.mark.parametrize(
    ("wrong", "reference", "repaired"),
    [
        ("3+8=11+1=12;", "3+8=11+2=13;", "3+8=11+2=13;"),
        ("2+7=9+3=12;", "3+8=11+2=13;", "2+8=10+3=13;"),
        ("", "3+8=11+2=13;", "3+8=11+2=13;"),
        ("3+8=11+1=12;", "13;", "13;"),
    ],
)
def test_the_rule_keeps_the_wrong_answers_order(method, wrong, reference, repaired):
    assert method.repair(wrong, reference) == repaired


def test_pairs_are_weighted_and_right_answers_leave(method):
    right, wrong = method.encode("3+8=11+2=13;"), method.encode("3+8=11+1=12;")
    digits = np.array([[3, 8, 2], [3, 8, 2]])
    rewards = np.array([1.0, 0.0, 0.0, 0.0])  # the second problem has no correct answer: skipped
    batch = method.df_grpo_batch([right, wrong, wrong, wrong], rewards, 2, digits, np.random.default_rng(0))
    assert [(member.row, member.token_ids) for member in batch] == [(1, wrong), (1, right)]
    assert batch[0].advantage < 0 < batch[1].advantage
    assert [member.weights.tolist() for member in batch] == [[0] * 7 + [1, 0, 0, 1, 0]] * 2


@pytest.mark.slow
def test_whole_method_in_a_tiny_setting():
    arguments = ["--updates", "2", "--teach", "60", "--seeds", "1", "--handwriting", "0.1"]
    done = subprocess.run(
        [sys.executable, EXAMPLES / "whole_method.py", *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "start:" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if "GRPO " in line]
    assert [row[0] for row in rows] == ["GRPO", "DF-GRPO"]
    assert all(row[3] == "384" for row in rows)
    assert rows[0][5] == "100.0%"


def test_mathvision_pairs_take_the_closest_right_answer(tmp_path):
    # Excerpts of MATH-Vision responses (Wang et al., NeurIPS 2024, github.com/mathllm/MATH-V, MIT licence).
    (tmp_path / "responses").mkdir()
    question = {"id": "52", "question": "Which point in the labyrinth can we get to, starting at point $O$?\n<image1>"}
    (tmp_path / "testmini.jsonl").write_text(json.dumps(question) + "\n")
    rows = {
        "a": [{"id": "52", "model": "a", "response": "We can get to point $\\boxed{E}$.", "correct": False}],
        "b": [{"id": "52", "model": "b", "response": "The answer is $\\boxed{C}$.", "correct": True}, {"id": "53"}],
        "c": [{"id": "52", "model": "c", "response": "C", "correct": True}],
    }
    for name, responses in rows.items():
        (tmp_path / "responses" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in responses))
    pairs, complaints = load("mathvision_pairs").make_pairs(tmp_path)
    assert pairs == [
        {
            "id": "52: a, right: b",
            "question": "Which point in the labyrinth can we get to, starting at point $O$?",
            "wrong": "We can get to point $\\boxed{E}$.",
            "repaired": "The answer is $\\boxed{C}$.",
        }
    ]
    assert complaints == ['b.jsonl line 2, "model": missing, or no str']


def test_mathvision_items_are_ready_to_annotate(tmp_path):
    folder, output = tmp_path / "data", tmp_path / "starter"
    (folder / "responses").mkdir(parents=True)
    because = " ".join(["because"] * 10)
    rows = []
    for name, size in (("7", 30), ("8", 40), ("9", 400)):
        noise = np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{name}.jpg")
        question = {"id": name, "question": "How many?\n<image1>", "answer": "5", "level": 1, "subject": "counting"}
        rows.append(question | {"options": [], "image": f"{name}.jpg"})
    write_jsonl(folder / "testmini.jsonl", rows)
    for model, answer in (("a", 5), ("b", 4), ("c", 3)):
        answers = [{"id": row["id"], "model": model, "response": f"{because} \\boxed{{{answer}}}"} for row in rows]
        answers = [answer_row | {"correct": answer == 5} for answer_row in answers]
        answers.append(answers[0] | {"correct": answer != 5, "response": f"otherwise {because} \\boxed{{{answer}}}"})
        write_jsonl(folder / "responses" / f"{model}.jsonl", answers)
    load("mathvision_items").make_items(folder, output, largest_image=20_000)
    work, _ = find_work(output)
    drafts = {(row["image"][0], row["draft"][-2]) for row in work.rows}
    assert drafts == {(f"images/{name}.jpg", answer) for name in "78" for answer in "34"}
    assert sorted(row["id"] for row in work.rows) == ["7", "7-2", "8", "8-2"]
    assert {row["reference"][-2] for row in work.rows} == {"5"}
    assert (output / "images" / "7.jpg").read_bytes() == (folder / "7.jpg").read_bytes()
