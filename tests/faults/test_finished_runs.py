"""Runs killed after their last checkpoint and before their summary: the same command ends them as if nothing had been.

Where they are killed: while the model is saved, at the last evaluation, at the predictions, at the summary. What ends
them: a number of steps, the epochs, a budget of processor time. Weights and files are compared bit for bit, clocks
aside; the seconds billed are those of the run before.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer

from difference_feedback.judges.audit_log import AuditLog
from difference_feedback.policy import train as policy_train
from difference_feedback.policy.evaluation import Evaluation
from difference_feedback.policy.train import train
from difference_feedback.repair.rl import train_rl
from difference_feedback.repair.sft import train_sft
from difference_feedback.repair.stage import Stage
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import read_rows
from difference_feedback.runs.loading import load_recipe
from difference_feedback.runs.recipes import RepairRLRecipe, RepairSFTRecipe, TrainRecipe

pytestmark = pytest.mark.faults
CLOCKS = ("runtime", "per_second", "step_time", "seconds", "eq29", "cost")
TRAIN = (
    *("problems=32", "evaluation.problems=6", "evaluation.curve_problems=4", "evaluation.every=2"),
    *("evaluation.max_new_tokens=16", "trl.per_device_train_batch_size=16", "trl.num_generations=4"),
    *("trl.max_completion_length=16", "trl.learning_rate=1e-3"),
)
STEPS = ("trl.max_steps=2", "trl.save_steps=2")
EPOCHS = ("trl.num_train_epochs=0.25", "trl.max_steps=-1", "trl.save_strategy=epoch")
BUDGET = ("budget_cpu_seconds=0.5", "trl.max_steps=100", "trl.save_steps=1000")
REPAIR = ("evaluation.problems=4", "evaluation.max_new_tokens=8", "drafts=6", "trl.per_device_train_batch_size=4")


class Killed(BaseException):
    """What ends a process at once: no handler for errors catches it."""


def die(*_: Any, **__: Any) -> Any:
    raise Killed


def kill_at(where: str, patch: pytest.MonkeyPatch) -> None:
    """Die when training is over and the model, the last evaluation, the predictions or the summary are due."""
    if where == "model":
        save = Trainer.save_model

        def save_checkpoints_only(self: Any, folder: Any = None, _internal_call: bool = False) -> None:
            save(self, folder, _internal_call) if _internal_call else die()

        patch.setattr(Trainer, "save_model", save_checkpoints_only)
    elif where == "evaluation":
        measure = policy_train.EvaluateHeldOut.measure
        patch.setattr(
            policy_train.EvaluateHeldOut,
            "measure",
            lambda self, state, final=False: die() if final else measure(self, state),
        )
    elif where == "predictions":
        patch.setattr(Evaluation, "write_predictions", die)
    elif where == "after":
        patch.setattr(Stage, "save", die)
    else:
        patch.setattr(Run, "finish", die)


def without_clocks(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_clocks(v) for k, v in value.items() if not any(clock in k for clock in CLOCKS)}
    return [without_clocks(item) for item in value] if isinstance(value, list) else value


def compare(whole: Run, resumed: Run) -> None:
    """The same weights, rows and summary; what was billed before the kill is billed once."""
    a, b = (load_file(run.model_path / "model.safetensors") for run in (whole, resumed))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    for name in ("predictions.jsonl", "items.jsonl", "oracle_repairs.jsonl", AuditLog(whole.folder).path.name):
        assert read_rows(resumed.folder / name) == read_rows(whole.folder / name), name
    assert without_clocks(resumed.metrics()) == without_clocks(whole.metrics())
    assert without_clocks(resumed.summary()) == without_clocks(whole.summary())


def killed_and_resumed(
    train_it: Any, recipe: Any, folder: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[Run, dict[str, Any]]:
    """The run after a kill and a second start, and what its last checkpoint says of the seconds."""
    run = Run(folder, recipe)
    with monkeypatch.context() as patch:
        kill_at(where, patch)
        with pytest.raises(Killed):
            train_it(recipe, run)
    assert not run.finished
    last = run.last_checkpoint()
    assert last is not None
    state = json.loads((last / "trainer_state.json").read_text())
    again = Run(folder, recipe)
    assert again.resumed
    train_it(recipe, again)
    return again, state


@pytest.mark.parametrize(
    ("name", "where", "ends"),
    [
        ("nano_grpo", "model", STEPS),
        ("nano_df_grpo", "evaluation", STEPS),
        ("nano_df_grpo", "summary", EPOCHS),
        ("nano_grpo", "predictions", BUDGET),
    ],
)
def test_a_policy_run_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, where: str, ends: tuple[str, ...]
) -> None:
    more = ("repair_model=nano",) if name == "nano_df_grpo" else ("keep_wrong_answers=5",)
    recipe = load_recipe(name, TrainRecipe, [*TRAIN, *ends, *more])
    resumed, state = killed_and_resumed(train, recipe, tmp_path / "run", where, monkeypatch)
    last = [row for row in state["log_history"] if "cpu_seconds" in row][-1]
    summary = resumed.summary()
    assert summary["steps"] == state["global_step"] == last["step"]
    assert summary["cpu_seconds"] == last["cpu_seconds"]
    if name == "nano_df_grpo":
        assert summary["cost"]["cpu"]["measured"] > 0
    steps = [row["step"] for row in resumed.metrics() if "reward" in row]
    assert steps == list(range(1, summary["steps"] + 1))
    assert sum("train_runtime" in row for row in resumed.metrics()) == 1
    if ends is BUDGET:  # how many steps fit is up to the machine
        assert summary["cpu_seconds"] >= 0.5
        return
    whole = Run(tmp_path / "whole", recipe)
    train(recipe, whole)
    compare(whole, resumed)


@pytest.mark.parametrize("where", ["after", "summary"])
def test_supervised_repair_training_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    ends = ["trl.max_steps=3", "trl.save_strategy=steps", "trl.save_steps=2", "trl.logging_steps=2"]
    recipe = load_recipe("nano_repair_sft", RepairSFTRecipe, [*REPAIR, *ends])
    resumed, state = killed_and_resumed(train_sft, recipe, tmp_path / "run", where, monkeypatch)
    assert resumed.summary()["updates"] == state["global_step"] == 3
    budget = state["stateful_callbacks"]["StopAtBudget"]
    seconds = budget["args"]["already_spent"]["cpu"] + budget["attributes"]["spent_before"]["cpu"]
    assert resumed.summary()["cpu_seconds"] == pytest.approx(seconds, rel=1e-12)
    whole = Run(tmp_path / "whole", recipe)
    train_sft(recipe, whole)
    compare(whole, resumed)


def test_repair_training_by_rl_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = ["trl.max_steps=2", "trl.save_strategy=steps", "trl.save_steps=1", "trl.num_generations=4"]
    ends += ["trl.logging_steps=1", "evaluation.every=1", "trl.max_completion_length=24", "model=nano", "policy=nano"]
    ends += ["text_only.samples=0", "evaluation.max_new_tokens=40"]
    recipe = load_recipe("nano_repair_rl", RepairRLRecipe, [*REPAIR, *ends])
    resumed, state = killed_and_resumed(train_rl, recipe, tmp_path / "run", "summary", monkeypatch)
    assert resumed.summary()["updates"] == state["global_step"] == 2
    whole = Run(tmp_path / "whole", recipe)
    train_rl(recipe, whole)
    compare(whole, resumed)
