"""A budget of processor time, with DF-GRPO and with plain GRPO, over interruptions; and the metrics file."""

import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from difference_feedback.errors import ConfigError, DifferenceFeedbackError
from difference_feedback.method.cost import BILL
from difference_feedback.trl import DFGRPOTrainer, MetricsToJsonl, StopAtBudget
from difference_feedback.trl.callbacks import StopWhenDiverged

KINDS = {"df-grpo": {"kind": DFGRPOTrainer}, "grpo": {"kind": GRPOTrainer, "config_kind": GRPOConfig}}


@pytest.mark.parametrize("kind", KINDS)
def test_training_stops_when_the_budget_is_spent(make_trainer: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    budget, metrics = StopAtBudget(101.0, already_spent=100.0), MetricsToJsonl(tmp_path / "metrics.jsonl")
    trainer = make_trainer(**KINDS[kind], max_steps=500, callbacks=[budget, metrics])
    start = time.process_time()
    trainer.train()
    spent = time.process_time() - start
    assert 1 < trainer.state.global_step < 50
    assert 101.0 <= budget.total < 102.0
    # Not billed is what `train` does before its first step, the more the busier the machine.
    assert 0.5 * spent < budget.total - 100.0 <= spent
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    seconds = [row["cpu_seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert seconds[-1] == budget.total
    assert [row["step"] for row in rows][:2] == [1, 2]
    assert all("cpu_seconds" in row for row in trainer.state.log_history)


def test_the_learning_rate_decays_over_the_budget(make_trainer: Callable[..., Any]) -> None:
    rate = {"learning_rate": 1e-3, "lr_scheduler_type": "linear"}
    trainer = make_trainer(**rate, max_steps=1000, callbacks=[StopAtBudget(102.0, already_spent=100.0)])
    trainer.train()
    rows = [row for row in trainer.state.log_history if "learning_rate" in row]
    assert 2 < len(rows) < 100
    assert rows[0]["learning_rate"] == 1e-3
    for before, row in pairwise(rows):
        remaining = (102.0 - before["cpu_seconds"]) / 2.0
        assert row["learning_rate"] == pytest.approx(1e-3 * remaining, abs=1.001e-6)  # one of a thousand steps
    assert trainer.optimizer.param_groups[0]["lr"] == 0.0


def test_steps_that_run_out_first_end_the_schedule(make_trainer: Callable[..., Any]) -> None:
    trainer = make_trainer(learning_rate=1e-3, lr_scheduler_type="linear", max_steps=4, callbacks=[StopAtBudget(1e6)])
    trainer.train()
    rates = [row["learning_rate"] for row in trainer.state.log_history if "learning_rate" in row]
    assert rates == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])


@pytest.mark.parametrize("restore", [False, True])
def test_a_resumed_run_goes_on_counting(make_trainer: Callable[..., Any], tmp_path: Path, restore: bool) -> None:
    changes: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1, "folder": tmp_path}
    changes["restore_callback_states_from_checkpoint"] = restore
    first = StopAtBudget(100.0, already_spent=5.0)
    make_trainer(max_steps=2, callbacks=[first], **changes).train()
    trainer = make_trainer(max_steps=3, callbacks=[StopAtBudget(100.0, already_spent=5.0)], **changes)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    totals = [row["cpu_seconds"] for row in trainer.state.log_history if "df/pairs" in row]
    assert len(totals) == 3
    assert 5.0 < totals[0] < totals[1] < totals[2] < 5.0 + first.total
    assert totals[2] - totals[1] < totals[1]


def test_paused_time_is_not_billed(make_trainer: Callable[..., Any]) -> None:
    budget = StopAtBudget(100.0)

    class Evaluating(DFGRPOTrainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            with budget.paused():
                end = time.process_time() + 1.0
                while time.process_time() < end:
                    pass
            return super().training_step(*args, **kwargs)

    start = time.process_time()
    make_trainer(Evaluating, max_steps=2, callbacks=[budget]).train()
    assert 0 < budget.total <= time.process_time() - start - 2.0  # two steps were paused for a second each


def test_a_budget_of_gpu_time_counts_the_gpus_that_are_held(
    make_trainer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BILL, "_gpus", {})
    BILL.hold("a server of four GPUs", 4)
    budget = StopAtBudget(gpu_seconds=8.0)
    start = time.perf_counter()
    trainer = make_trainer(max_steps=500, callbacks=[budget])
    trainer.train()
    assert 1 < trainer.state.global_step < 100
    assert 8.0 <= budget.totals["gpu"] <= 4 * (time.perf_counter() - start)
    last = [row for row in trainer.state.log_history if "df/gpu_seconds/total" in row][-1]
    assert last["df/gpu_seconds/total"] == pytest.approx(4 * last["df/seconds/total"])
    assert last["gpu_seconds"] == budget.totals["gpu"]
    assert set(trainer.cost.run.terms(1)) == {"wall", "cpu", "gpu"}


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="positive"):
        StopAtBudget(0.0)


def test_metrics_that_are_not_finite_become_null(make_trainer: Callable[..., Any], tmp_path: Path) -> None:
    metrics = MetricsToJsonl(tmp_path / "metrics.jsonl")
    trainer = make_trainer(max_steps=1, callbacks=[metrics])
    trainer.log({"x": float("nan"), "y": float("inf"), "z": 1})
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (row["x"], row["y"], row["z"]) == (None, None, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_no_numbers_end_the_run_in_words(make_trainer: Callable[..., Any], kind: str) -> None:
    class SpoilGradient(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if state.global_step == 1:
                for parameter in model.parameters():
                    parameter.grad = torch.full_like(parameter, torch.nan)

    trainer = make_trainer(**KINDS[kind], max_steps=4, callbacks=[StopWhenDiverged(), SpoilGradient()])
    with pytest.raises(DifferenceFeedbackError, match=r"step 2: .*trl\.learning_rate"):
        trainer.train()
