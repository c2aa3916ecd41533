"""Training runs end to end on the nano base: what they write, that they resume exactly, that budgets bind."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from architectures import save
from PIL import Image
from safetensors.torch import load_file
from servers.unruly_server import unruly
from typer.testing import CliRunner

from difference_feedback.cli import app
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.judges.questions import training_data
from difference_feedback.policy.train import host_config, refuse_other_tokens, train
from difference_feedback.report.page import write_report
from difference_feedback.runs.check import check
from difference_feedback.runs.folder import Run
from difference_feedback.runs.loading import load_recipe
from difference_feedback.runs.recipes import TrainRecipe

SMALL = (
    *("problems=48", "evaluation.problems=12", "evaluation.every=2", "trl.max_steps=4", "trl.save_steps=2"),
    *("trl.per_device_train_batch_size=16", "trl.num_generations=4", "trl.learning_rate=1e-3"),
)


def recipe_of(name: str, *overrides: str) -> TrainRecipe:
    return load_recipe(name, TrainRecipe, [*SMALL, *overrides])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("method", ["grpo", "df-grpo"])
def test_a_run_writes_its_folder_and_resumes_exactly(method: str, tmp_path: Path) -> None:
    recipe = recipe_of("nano_grpo") if method == "grpo" else recipe_of("nano_df_grpo", "repair_model=nano")
    run = Run(tmp_path / "run", recipe)
    summary = train(recipe, run)

    assert run.finished
    assert summary == run.summary()
    assert (summary["method"], summary["steps"], summary["problems"]) == (method, 4, 12)
    measured = [row for row in run.metrics() if "accuracy" in row]
    assert [row["step"] for row in measured] == [0, 2, 4]
    assert measured[0]["cpu_seconds"] == 0.0
    assert 0 < measured[1]["cpu_seconds"] < measured[2]["cpu_seconds"] == pytest.approx(summary["cpu_seconds"])
    assert summary["base_accuracy"] == measured[0]["accuracy"]
    assert len((run.folder / "predictions.jsonl").read_text().splitlines()) == 12
    trained, start = weights(run.model_path), weights(run.checkpoints / "checkpoint-2")
    assert any(not torch.equal(trained[name], start[name]) for name in trained), "the last two steps changed something"
    if method == "df-grpo":
        assert set(summary["cost"]) == {"wall", "cpu"}
        for cost in summary["cost"].values():
            assert cost["measured"] >= sum(cost["stages"].values())
            assert 0 < cost["p_err"] < 1
        spent = summary["cost"]["cpu"]["measured"] * 4
        assert spent == pytest.approx(summary["cpu_seconds"], rel=0.02, abs=0.05), "evaluations do not count"
    assert write_report(run.folder).is_file()

    # Interrupted after step 2: what came later is gone, and the same command continues.
    for path in (run.model_path, run.checkpoints / "checkpoint-4"):
        shutil.rmtree(path)
    (run.folder / "summary.json").unlink()
    again = Run(tmp_path / "run", recipe)
    assert again.resumed
    resumed = train(recipe, again)
    assert resumed["steps"] == 4
    assert resumed["accuracy"] == summary["accuracy"]
    assert [row["step"] for row in again.metrics() if "accuracy" in row] == [0, 2, 4]
    assert all(torch.equal(tensor, trained[name]) for name, tensor in weights(run.model_path).items())


@pytest.mark.parametrize(
    "overrides",
    [
        ["repair_model=policy"],
        ["repair_model=blind_rewriter"],
        ["repair_model=null", "trl.num_repairs=0", "trl.sibling_repairs=true", "trl.max_edit_cost=0.6"],
    ],
)
def test_pairs_come_without_a_repair_model_of_their_own(overrides: list[str], tmp_path: Path) -> None:
    recipe = recipe_of("nano_df_grpo", "trl.max_steps=3", "trl.per_device_train_batch_size=32", *overrides)
    run = Run(tmp_path / "run", recipe)
    summary = train(recipe, run)
    rows = [row for row in run.metrics() if "df/pairs" in row]
    assert sum(row["df/pairs"] for row in rows) > 3
    assert summary["cost"]["wall"]["num_repairs"] == recipe.trl["num_repairs"]
    if overrides[0] == "repair_model=null":
        assert summary["cost"]["wall"]["repair"] == 0.0
        assert all(row["df/edit_cost"] <= 0.6 for row in rows if row["df/pairs"])


def test_wrong_answers_are_scored_by_a_model_beside_the_policy(tmp_path: Path) -> None:
    """The base scores; a repair's temperature of 0 means nothing, where none is sampled."""
    scored = ["trl.weights=log_ratio", "trl.regroup=false", "repair_model=nano", "repairs.temperature=0"]
    recipe = recipe_of("nano_df_grpo", "trl.max_steps=1", "trl.per_device_train_batch_size=32", *scored)
    run = Run(tmp_path / "run", recipe)
    summary = train(recipe, run)
    row = next(row for row in run.metrics() if "df/scored" in row)
    assert row["df/scored"] > 0
    assert 0 < row["df/weight_density/wrong"] < 0.5
    assert summary["cost"]["wall"]["num_repairs"] == 1
    assert summary["cost"]["wall"]["repair"] > 0
    write_report([run.folder], tmp_path / "report.html")


def test_a_repair_model_with_other_tokens_scores_nothing(tmp_path: Path) -> None:
    other = save("qwen2_5_vl", tmp_path / "other")
    recipe = recipe_of("nano_df_grpo", "trl.weights=doubt", "trl.regroup=false", f"repair_model={other}")
    with pytest.raises(ConfigError, match=r"repair_model: .*other does not have .*with the policy's tokenizer"):
        train(recipe, Run(tmp_path / "run", recipe))
    for allowed in ({"trl": recipe.trl | {"weights": "mask"}}, {"repair_model": "nano"}, {"repair_model": "policy"}):
        refuse_other_tokens(recipe.model_copy(update=allowed))
    command = ["train", "nano_df_grpo", "trl.weights=doubt", "trl.regroup=false", f"repair_model={other}"]
    refused = CliRunner().invoke(app, [*command, "--output", str(tmp_path / "refused")])
    assert refused.exit_code == 2
    assert not (tmp_path / "refused").exists()


def test_the_process_reward_model_of_prime_learns_to_tell_right_answers_from_wrong_ones(tmp_path: Path) -> None:
    """Four questions again and again, on a policy that stands still. At first all rewards are 0, which is chance."""
    recipe = recipe_of(
        *("nano_grpo", "method=prime", "problems=4", "evaluation.problems=1", "evaluation.every=0"),
        *("trl.max_steps=8", "trl.save_strategy=no", "trl.learning_rate=1e-9", "trl.prompt_accuracy_high=1.0"),
        *("trl.per_device_train_batch_size=32", "trl.num_generations=8", "trl.prompt_accuracy_low=0.0"),
        *("trl.prm_beta=1.0", "trl.prm_learning_rate=1e-3"),
    )
    run = Run(tmp_path / "run", recipe)
    summary = train(recipe, run)
    rows = [row for row in run.metrics() if "prime/prm_loss" in row]
    assert rows[0]["prime/prm_loss"] == pytest.approx(0.6931, abs=1e-4)
    shares = [row["prime/ordered_share"] for row in rows if "prime/ordered_share" in row]
    assert min(shares[-2:]) > 0.8  # of the pairs of a right and a wrong answer to one question
    assert summary["method"] == "prime"
    assert summary["cpu_seconds"] > 0


def test_a_budget_ends_the_run_and_what_was_spent_before_counts(tmp_path: Path) -> None:
    recipe = recipe_of("nano_grpo", "budget_cpu_seconds=100.5", "trl.max_steps=50", "evaluation.every=0")
    run = Run(tmp_path, recipe)
    summary = train(recipe, run, already_spent=100.0)
    assert 1 <= summary["steps"] < 50
    assert summary["cpu_seconds"] >= 100.5
    assert summary["setup_cpu_seconds"] == 100.0
    assert next(row["cpu_seconds"] for row in run.metrics() if "accuracy" in row) == 100.0


def test_training_on_a_file_of_real_questions(tmp_path: Path) -> None:
    Image.new("RGB", (56, 56), "red").save(tmp_path / "a.png")
    rows = [{"question": f"how much is {i} plus {i} ?", "image": "a.png", "answer": str(2 * i)} for i in range(8)]
    text = "".join(json.dumps(row) + "\n" for row in [*rows, {"question": "?", "image": "a.png"}])
    (tmp_path / "rows.jsonl").write_text(text)
    path = f"data.path={tmp_path / 'rows.jsonl'}"
    recipe = recipe_of("nano_grpo", path, "data.instruction=''", "trl.max_steps=1")
    run = Run(tmp_path / "run", recipe)
    summary = train(recipe, run)
    assert summary["steps"] == 1
    assert "accuracy" not in summary, "no held-out questions were given"
    assert write_report(run.folder).is_file()

    large = recipe_of("nano_grpo", path, "trl.generation_batch_size=128", "trl.num_generations=8")
    with pytest.raises(DataError, match="8 questions to train on; a batch of rollouts takes 16"):
        train(large, Run(tmp_path / "large", large))

    tested = recipe_of("nano_grpo", path, f"test_data.path={tmp_path / 'rows.jsonl'}", "trl.max_steps=1")
    assert train(tested, Run(tmp_path / "tested", tested))["problems"] == 8


@pytest.mark.parametrize(
    ("name", "overrides", "says"),
    [
        ("nano_df_grpo", ["repair_model=null"], "needs repair_model"),
        ("nano_grpo", ["repair_model=nano"], "grpo repairs nothing"),
        ("nano_grpo", ["method=prime", "repair_model=nano"], "prime repairs nothing"),
        ("nano_grpo", ["method=ar-grpo", "objective=gspo"], "objective: gspo"),
        ("nano_grpo", ["method=prime", "lora={}"], "lora"),
        ("nano_grpo", ["method=prime", "trl.ar_alpha=0.1"], "ar_alpha"),
        ("nano_grpo", ["method=prime", "trl.prm_gamma=2.0"], "prm_gamma"),
        ("nano_grpo", ["data={path: none.jsonl}"], "none.jsonl"),
        ("nano_grpo", ["host=verl"], "host: verl"),
        ("nano_grpo", ["trl.seed=3"], "set by the run itself"),
    ],
)
def test_what_cannot_work_ends_before_anything_is_trained(
    name: str, overrides: list[str], says: str, tmp_path: Path
) -> None:
    recipe = recipe_of(name, *overrides)
    with pytest.raises(ConfigError, match=says):
        train(recipe, Run(tmp_path, recipe))


def test_a_language_model_grades_where_the_recipe_says_so() -> None:
    vote = json.dumps({"extracted": "", "verdict": "correct", "reason": ""})
    with unruly() as server:
        server.script = [vote, "no verdict", vote]
        endpoint = {"url": server.url, "model": "judge", "concurrency": 1}
        values = {"method": "grpo", "reward": "llm-judge", "judge": {"endpoint": endpoint}}
        recipe = TrainRecipe.model_validate(values | {"problems": 4})
        dataset, grader = training_data(recipe)
        rewards = grader.reward([dataset[0]["prompt"]] * 3, ["7", "8", "9"], answer=["7"] * 3)
        assert rewards == [1.0, None, 1.0]
    for wrong in ({"reward": "llm-judge", "judge": None}, {"reward": None}):
        with pytest.raises(ConfigError, match="go together"):
            check(TrainRecipe.model_validate(values | wrong))


REWARDS = """
def right(completions, answer, **_):
    return [float(completion[-1]["content"].rpartition("answer")[2].split() == truth.split())
            for completion, truth in zip(completions, answer)]

def short(prompts, completions, completion_ids, log_metric, **_):
    log_metric("tokens", sum(map(len, completion_ids)) / len(completion_ids))
    return [1.0 if len(ids) < 20 else 0.0 for ids in completion_ids]
"""


def test_rewards_of_one_s_own_train_and_measure_and_decide_what_is_repaired(tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text(REWARDS)
    rewards = f"{{{tmp_path}/rewards.py:right: 1.0, {tmp_path}/rewards.py:short: 0.25}}"
    recipe = recipe_of(
        "nano_df_grpo", "repair_model=oracle", f"reward={rewards}", "trl.max_steps=2", "report_to=tensorboard"
    )
    run = Run(tmp_path / "run", recipe)
    summary = train(recipe, run)
    rows = [row for row in run.metrics() if "df/wrong_share" in row]
    assert len(rows) == 2
    for row in rows:
        assert row["df/wrong_share"] == pytest.approx(1 - row["rewards/right/mean"]), (
            "the threshold is 1: right alone is enough"
        )
        total = row["rewards/right/mean"] + 0.25 * row["rewards/short/mean"]
        assert row["reward"] == pytest.approx(total, abs=1e-6)
        assert row["tokens"] > 0
    assert list((run.checkpoints / "runs").rglob("events.*")), "the tracker was asked"
    plain = recipe_of("nano_df_grpo", "repair_model=oracle", "trl.max_steps=2")
    again = train(plain, Run(tmp_path / "plain", plain))
    assert again["base_accuracy"] == summary["base_accuracy"], "held-out answers are right by the same threshold"


def test_a_reward_that_fails_ends_the_run_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text("def f(completions, **_):\n    return [1.0]\n")
    recipe = recipe_of("nano_grpo", f"reward={tmp_path}/rewards.py:f", "evaluation.problems=1")
    with pytest.raises(DataError, match=r"rewards\.py:f returned 1 rewards for 16"):
        train(recipe, Run(tmp_path / "run", recipe))


def test_the_run_is_named_as_its_folder_and_weights_follow_the_rewards(tmp_path: Path) -> None:
    recipe = recipe_of(
        "nano_df_grpo", "repair_model=oracle", "reward={embedded: 0.5, final-answer: 1.5}", "reward_threshold=0.5"
    )
    config = host_config(recipe, tmp_path / "my_run" / "checkpoints")
    assert config.run_name == "my_run"
    assert config.report_to == []
    assert config.reward_weights == [0.5, 1.5]
    assert config.reward_threshold == 0.5
    assert host_config(recipe_of("nano_grpo", "trl.run_name=mine")).run_name == "mine"
