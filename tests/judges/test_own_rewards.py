"""Reward functions in a file of one's own, alone and in a weighted sum: the same verdicts wherever they grade."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from PIL import Image

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.judges.own_reward import load_reward
from difference_feedback.judges.questions import (
    EMBEDDED,
    FINAL_ANSWER,
    columns_of,
    grader_of,
    held_out,
    reward_functions,
    training_data,
    training_questions,
)
from difference_feedback.judges.reward_sum import RewardSum
from difference_feedback.method.groups import split_by_reward
from difference_feedback.runs.recipes import EvaluateRecipe, RepairRLRecipe, TrainRecipe
from difference_feedback.runs.rewards import BENCHMARKS, OwnFunction, check_rewards
from difference_feedback.trl.rollouts import total_rewards
from difference_feedback.verl.problems import source_of, write_questions
from difference_feedback.verl.reward import compute_score
from difference_feedback.verl.translate import overrides

REWARDS = """
from neighbour import ends_with_dot

SEEN = []

def format(completions, **_):
    return [0.5 if ends_with_dot(c[-1]["content"]) else 0.0 for c in completions]

def length(prompts, completions, completion_ids, **columns):
    SEEN.append(sorted(columns))
    return [None if not ids else -len(ids) / 100 for ids in completion_ids]

def accuracy(completions, answer, id):
    return [float(c[-1]["content"].rstrip(".") == f"{a} {i}") for c, a, i in zip(completions, answer, id)]

async def later(completions, **_):
    return [1.0 for _ in completions]

def array(completions, **_):
    import numpy
    return numpy.ones(len(completions))

def short(completions, **_):
    return [1.0]

def text(completions, **_):
    return ["1.0" for _ in completions]

def huge(completions, **_):
    return [1e38 for _ in completions]

def nan(completions, **_):
    return [float("nan") for _ in completions]

def number(completions, **_):
    return 1.0

def fails(completions, **_):
    return [{}["key"] for _ in completions]

def needs(completions, difficulty):
    return [1.0 for _ in completions]

not_callable = len("abc")
"""
FAULT = REWARDS[: REWARDS.index('{}["key"]')].count("\n") + 1


@pytest.fixture
def rewards(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("def ends_with_dot(text):\n    return text.endswith('.')\n")
    (tmp_path / "rewards.py").write_text(REWARDS)
    return tmp_path / "rewards.py"


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    Image.new("RGB", (56, 56), "red").save(tmp_path / "a.png")
    rows = [{"id": f"q{i}", "question": f"what is {i} ?", "image": "a.png", "answer": str(i)} for i in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"path": str(tmp_path / "rows.jsonl")}


def said(*texts: str) -> dict[str, Any]:
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    return {"prompts": [None] * len(texts), "completions": completions, "completion_ids": [[1]] * len(texts)}


def test_a_function_gets_what_it_takes_and_its_neighbours(rewards: Path) -> None:
    assert load_reward(OwnFunction(rewards, "format"))(**said("a.", "b"), more=[0, 0]) == [0.5, 0.0]
    accuracy = load_reward(OwnFunction(rewards, "accuracy"))
    assert accuracy(**said("7 q"), answer=["7"], id=["q"], images=[[]], log_metric=print) == [1.0]
    assert accuracy.__name__ == "accuracy", "TRL logs it by this name"
    for name in ("later", "array"):
        assert load_reward(OwnFunction(rewards, name))(**said("a", "b")) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("short", ["1 rewards for 2"]),
        ("text", ["'1.0'", "finite number"]),
        ("nan", ["nan", "None"]),
        ("huge", ["1e+38", "1e9"]),
        ("number", ["float", "list"]),
        ("fails", ["KeyError", f"line {FAULT}", "rewards.py"]),
        ("needs", ["'difficulty'", "answer"]),
    ],
)
def test_a_mistake_in_a_function_names_it(rewards: Path, function: str, words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        load_reward(OwnFunction(rewards, function))(**said("a", "b"), answer=["a", "b"])
    for word in [f"rewards.py:{function}", *words]:
        assert word in str(caught.value)


def test_a_file_that_cannot_be_imported_and_a_name_that_is_no_function(rewards: Path) -> None:
    with pytest.raises(ConfigError, match="not_callable"):
        load_reward(OwnFunction(rewards, "not_callable"))
    broken = rewards.with_name("broken.py")
    broken.write_text("import no_such_module\ndef f(completions): ...\n")
    with pytest.raises(ConfigError, match=r"no_such_module.*line 1"):
        load_reward(OwnFunction(broken, "f"))


def test_a_sum_is_formed_as_trl_forms_it_and_right_from_the_threshold_on(rewards: Path, data: dict[str, str]) -> None:
    names = {f"{rewards}:accuracy": 0.7, f"{rewards}:format": 0.4, f"{rewards}:length": 0.1}
    recipe = EvaluateRecipe.model_validate({"data": data, "reward": names, "reward_threshold": 0.89})
    questions, grader = held_out(recipe)
    assert isinstance(grader, RewardSum)
    texts = ["0 q0.", "1 q1", "0 q2.", ""]
    lengths = [len(grader.encode(text)) for text in texts]
    by_hand = [
        0.7 + 0.2 - lengths[0] / 1000,
        0.7 - lengths[1] / 1000,
        0.2 - lengths[2] / 1000,
        None,  # without tokens `length` is None: it has not judged the answer, so nobody has
    ]
    batch = {name: [columns_of(question)[name] for question in questions] for name in ("answer", "id")}
    sums = grader.reward(**said(*texts) | {"completion_ids": [[0] * n for n in lengths]}, **batch)
    assert sums[:3] == pytest.approx(by_hand[:3])
    assert sums[3] is None
    assert grader.grade(questions, texts) == [True, False, False, None]
    assert [grader.is_right(*row) for row in zip(questions, texts, strict=True)] == [True, False, False, None]


def test_an_answer_that_no_function_judges_is_unjudged(rewards: Path, data: dict[str, str]) -> None:
    recipe = EvaluateRecipe.model_validate({"data": data, "reward": f"{rewards}:length"})
    questions, grader = held_out(recipe)
    assert not isinstance(grader, RewardSum) or grader.grade(questions[:2], ["", "many words"]) == [None, False]
    assert isinstance(grader, RewardSum)


@pytest.mark.parametrize("numbers", [(0.7, 0.2, 0.1), (0.65, 0.15, 0.2)])
def test_weights_that_add_up_to_the_threshold_reach_it(
    numbers: tuple[float, ...], rewards: Path, data: dict[str, str]
) -> None:
    """0.7 + 0.2 + 0.1 is less than 1 in floating point, and 0.65 + 0.15 + 0.2 in TRL's float32."""
    source = "def one(completions, **_):\n    return [1.0] * len(completions)\n"
    files = []
    for name in "abc":
        files.append(rewards.with_name(f"{name}.py"))
        files[-1].write_text(source)
    weights = {f"{file}:one": weight for file, weight in zip(files, numbers, strict=True)}
    recipe = EvaluateRecipe.model_validate({"data": data, "reward": weights})
    check_rewards(recipe)
    questions, grader = held_out(recipe)
    assert isinstance(grader, RewardSum)
    assert [function.__name__ for function in reward_functions(grader)] == ["a.one", "b.one", "c.one"]
    assert grader.grade(questions, ["x"] * 4) == [True] * 4
    ones = total_rewards(torch.ones(1, 3), torch.tensor(numbers))
    assert split_by_reward(ones, grader.threshold).correct.tolist() == [0]
    scored = compute_score("", "x", "", rewards=list(weights), weights=numbers, threshold=grader.threshold)
    assert scored["acc"] == 1.0
    check_rewards(EvaluateRecipe.model_validate({"reward": dict(zip(("embedded", *BENCHMARKS), numbers))}))  # noqa: B905


def test_built_in_rewards_may_be_members_of_a_sum(data: dict[str, str]) -> None:
    recipe = EvaluateRecipe.model_validate({"data": data, "reward": {"final-answer": 1.0}})
    questions, grader = held_out(recipe)
    assert grader is FINAL_ANSWER, "a single rule of weight 1 is the rule itself"
    halved = EvaluateRecipe.model_validate({"data": data, "reward": {"final-answer": 0.5}, "reward_threshold": 0.5})
    texts = ["\\boxed{0}", "\\boxed{2}", "\\boxed{2}", "nothing"]
    assert held_out(halved)[1].grade(questions, texts) == FINAL_ANSWER.grade(questions, texts)
    embedded = EvaluateRecipe.model_validate({"reward": {"embedded": 2.0}, "evaluation": {"problems": 6}})
    problems, grader = held_out(embedded)
    assert grader.grade(problems, [f"answer {p.answer}" for p in problems]) == [True] * 6
    assert EMBEDDED.grade(problems, ["answer x"] * 6) == grader.grade(problems, ["answer x"] * 6)


@pytest.mark.parametrize("own_data", [True, False])
def test_training_evaluation_and_verl_grade_alike(own_data: bool, rewards: Path, data: dict[str, str]) -> None:
    """TRL's rows, held-out questions and verl's rows give a function the same columns and the same reward."""
    accuracy = f"{rewards}:accuracy" if own_data else "embedded"
    values: dict[str, Any] = {"method": "grpo", "problems": 4, "reward": {accuracy: 1.0, f"{rewards}:format": 0.2}}
    recipe = TrainRecipe.model_validate(values | ({"data": data} if own_data else {}))
    questions = training_questions(recipe)
    dataset, grader = training_data(recipe)
    assert isinstance(grader, RewardSum)
    right = [
        f"{question.answer} q{i}." if own_data else f"answer {question.answer}" for i, question in enumerate(questions)
    ]
    for texts in (right, ["wrong."] * 4):
        rows = {name: list(dataset[name]) for name in dataset.column_names if name != "prompt"}
        batch = said(*texts) | {"prompts": list(dataset["prompt"])}
        each = [function(**batch, **rows) for function in reward_functions(grader)]
        total = [sum(weight * of[i] for weight, of in zip(grader.weights, each, strict=True)) for i in range(4)]
        assert [value >= 1 for value in total] == grader.grade(questions, texts)

        path = rewards.with_name("train.parquet")
        write_questions(path, questions, source_of(grader))
        kwargs = {
            key.rpartition(".")[2]: value
            for key, value in overrides(recipe).items()
            if "custom_reward_function.reward_kwargs" in key
        }

        for i, row in enumerate(Dataset.from_parquet(str(path)).with_format("numpy")):
            truth = str(row["reward_model"]["ground_truth"])
            scored = compute_score(str(row["data_source"]), texts[i], truth, row["extra_info"], **kwargs)
            assert scored["score"] == pytest.approx(total[i])
            assert bool(scored["acc"]) == (total[i] >= 1)
            assert scored["question"] == str(i)


def test_a_repair_is_graded_as_a_policy_s_answer_is(rewards: Path, data: dict[str, str]) -> None:
    values = {"data": data, "test_data": data, "audit": {"enabled": False}, "reward": f"{rewards}:accuracy"}
    recipe = RepairRLRecipe.model_validate(values)
    questions, grader = held_out(recipe)
    assert grader.grade(questions, ["0 q0", "1 q1", "3 q2", "3 q3"]) == [True, True, False, True]
    assert grader_of(recipe).grade(questions, ["0 q0"] * 4) == [True, False, False, False]
