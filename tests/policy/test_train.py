"""Training runs end to end on the nano base: what they write, that they resume exactly, that budgets bind."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from servers.unruly_server import unruly

from difference_feedback.errors import ConfigError
from difference_feedback.judges.questions import training_data
from difference_feedback.policy.train import train
from difference_feedback.report import write_report
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
    text = "".join(json.dumps(row) + "\n" for row in [*rows, {"question": "?", "answer": "1"}])
    (tmp_path / "rows.jsonl").write_text(text)
    path = f"data.path={tmp_path / 'rows.jsonl'}"
    recipe = recipe_of("nano_grpo", path, "data.instruction=''", "trl.max_steps=1")
    run = Run(tmp_path / "run", recipe)
    summary = train(recipe, run)
    assert summary["steps"] == 1
    assert "accuracy" not in summary, "no held-out questions were given"
    assert write_report(run.folder).is_file()

    tested = recipe_of("nano_grpo", path, f"test_data.path={tmp_path / 'rows.jsonl'}", "trl.max_steps=1")
    assert train(tested, Run(tmp_path / "tested", tested))["problems"] == 8


@pytest.mark.parametrize(
    ("name", "overrides", "says"),
    [
        ("nano_df_grpo", ["repair_model=null"], "needs repair_model"),
        ("nano_grpo", ["repair_model=nano"], "GRPO repairs nothing"),
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
