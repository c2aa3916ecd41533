"""An update without the rows that have no gradient trains the weights of one with all rows.

SGD, since Adam would blow the rounding of another order of summation up to the size of a step.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trl_world
from datasets import Dataset
from peft import LoraConfig
from torch import nn
from trl import GRPOConfig, GRPOTrainer
from trl_world import ScriptedRollouts, ScriptedTrainer, weights_of

from difference_feedback.errors import ConfigError
from difference_feedback.method.repairs import Repair, RepairRequest
from difference_feedback.models.load import load_model
from difference_feedback.trl import ExactResume
from difference_feedback.trl.config import LeanGRPOConfig
from difference_feedback.trl.objective import trl_settings


class PlainTrainer(ScriptedRollouts, ExactResume):
    """GRPO on the scripted answers."""


class HostTrainer(ScriptedRollouts, GRPOTrainer):
    """TRL's own trainer on them."""


def half_settled(prompts: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
    """Right by parity for half of the questions; all answers to the others are right, or all are wrong."""
    kinds = [sum(map(ord, prompt[0]["content"][-1]["text"])) % 4 for prompt in prompts]
    rights = (float(sum(ids) % 2 == 0) for ids in completion_ids)
    return [float(kind // 2) if kind % 2 else right for kind, right in zip(kinds, rights, strict=True)]


class Picky(trl_world.FlipParity):
    """Finds no repair for one draft in three."""

    def repair(self, requests: list[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
        repairs = super().repair(requests, num_samples)
        return [[] if sum(r.draft_ids) % 3 == 0 else drawn for r, drawn in zip(requests, repairs, strict=True)]


ACCUMULATED = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
ROW_BY_ROW = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
SEVERAL = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "steps_per_generation": 4}
REPEATED = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "num_iterations": 2}
CASES: dict[str, tuple[type, str, dict[str, Any]]] = {
    "grpo": (PlainTrainer, "grpo", SEVERAL),
    "gspo": (PlainTrainer, "gspo", REPEATED),
    "dapo-lora": (PlainTrainer, "dapo", ROW_BY_ROW | {"lora": True}),
    "sapo": (PlainTrainer, "sapo", ACCUMULATED),
    "df-grpo-lora": (ScriptedTrainer, "grpo", ROW_BY_ROW | {"lora": True, "empty_feasible": "broadcast"}),
    "df-gspo": (ScriptedTrainer, "gspo", SEVERAL | {"weights": "wrong_only"}),
    "df-dapo": (ScriptedTrainer, "dapo", SEVERAL | {"weights": "repair_only", "beta": 0.1}),
    "df-dr_grpo": (ScriptedTrainer, "dr_grpo", ACCUMULATED | {"weights": "repair_only"}),
    "df-cispo": (ScriptedTrainer, "cispo", REPEATED | {"length_norm": "weights", "weights": "wrong_only"}),
    "df-sapo-rollouts": (ScriptedTrainer, "sapo", ACCUMULATED | {"regroup": False}),
}


def make(make_trainer: Callable[..., Any], kind: type, objective: str, **changes: Any) -> Any:
    if kind is ScriptedTrainer:
        changes = {"objective": objective, "repairer": Picky()} | changes
    else:
        changes = {"config_kind": LeanGRPOConfig} | trl_settings(objective) | changes
    if changes.pop("lora", False):
        changes["peft_config"] = LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    settings = {"max_steps": 10, "optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0, "logging_steps": 20}
    return make_trainer(kind, **({"reward_funcs": half_settled} | settings | changes))


def trained(trainer: Any) -> tuple[dict[str, torch.Tensor], int, float]:
    """Weights, rows that went through the model for the loss, and how far a weight has moved at most."""
    before, rows, loss = weights_of(trainer.model), 0, trainer._compute_loss

    def counting(model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        nonlocal rows
        rows += len(inputs["prompt_ids"])
        return loss(model, inputs)

    trainer._compute_loss = counting
    trainer.train()
    after = weights_of(trainer.model)
    return after, rows, max(float((after[name] - before[name]).abs().max()) for name in after)


def assert_same(needed: dict[str, torch.Tensor], every: dict[str, torch.Tensor], tolerance: float = 1e-6) -> None:
    assert needed.keys() == every.keys()
    for name, value in every.items():
        torch.testing.assert_close(needed[name], value, rtol=0, atol=tolerance, msg=name)


QUICK = ("grpo", "df-cispo")


@pytest.mark.parametrize("case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES])
def test_the_weights_are_those_of_all_rows(make_trainer: Callable[..., Any], case: str) -> None:
    kind, objective, changes = CASES[case]
    every, all_rows, moved = trained(make(make_trainer, kind, objective, leave_out_rows=False, **changes))
    trainer = make(make_trainer, kind, objective, **changes)
    needed, rows, _ = trained(trainer)
    assert moved > 1e-3
    assert rows < all_rows
    assert_same(needed, every)
    assert any(row.get("rows_without_gradient") for row in trainer.state.log_history) == ("beta" not in changes)


def test_a_checkpoint_as_users_have_it(
    make_trainer: Callable[..., Any], checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """Adam goes on by its moments in a step without any gradient, and where no row with an image is left."""
    weights = []
    for leave_out in (False, None):
        model, processor = load_model(str(checkpoint("qwen2_5_vl")))
        questions = trl_world.questions()
        rows = questions.to_list()
        for row in rows[::2]:
            row["images"], row["prompt"][0]["content"] = [], row["prompt"][0]["content"][-1:]
        args = trl_world.config(
            *(tmp_path, LeanGRPOConfig),
            **ACCUMULATED | {"max_steps": 10, "leave_out_rows": leave_out, "adam_epsilon": 1e-3, "beta": 0.0},
        )
        data = Dataset.from_list(rows, features=questions.features)
        trainer = PlainTrainer(model, half_settled, args, train_dataset=data, processing_class=processor)
        weights.append(trained(trainer))
    assert weights[1][1] < 0.8 * weights[0][1]
    assert_same(weights[1][0], weights[0][0])


def test_switched_off_it_is_trl(make_trainer: Callable[..., Any]) -> None:
    ours, _, _ = trained(make(make_trainer, PlainTrainer, "dapo", leave_out_rows=False, max_steps=3, **SEVERAL))
    host = make(make_trainer, HostTrainer, "dapo", config_kind=GRPOConfig, max_steps=3, **SEVERAL)
    assert_same(trained(host)[0], ours, tolerance=0.0)


def test_where_all_rows_have_a_gradient_nothing_changes(make_trainer: Callable[..., Any]) -> None:
    def ranks(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [float(sum(ids)) for ids in completion_ids]

    ours, _, _ = trained(make(make_trainer, PlainTrainer, "grpo", reward_funcs=ranks, max_steps=3, **SEVERAL))
    changes = {"config_kind": GRPOConfig, "reward_funcs": ranks, "max_steps": 3}
    host = make(make_trainer, HostTrainer, "grpo", **changes, **SEVERAL)
    assert_same(trained(host)[0], ours, tolerance=0.0)


@pytest.mark.parametrize(
    "setting",
    [{"beta": 0.1}, {"loss_type": "bnpo"}, {"top_entropy_quantile": 0.5}, {"entropy_coef": 0.1}],
    ids=lambda setting: next(iter(setting)),
)
def test_settings_that_need_all_rows(make_trainer: Callable[..., Any], setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"leave_out_rows.*{next(iter(setting))}"):
        make(make_trainer, PlainTrainer, "grpo", **setting, leave_out_rows=True)
    trainer = make(make_trainer, PlainTrainer, "grpo", **setting)
    assert len(trl_world.first_batch(trainer)["prompt_ids"]) == 8


def test_a_model_that_draws_in_training_keeps_its_draws(make_trainer: Callable[..., Any]) -> None:
    dropout = {"peft_config": LoraConfig(r=4, target_modules=["q_proj"], lora_dropout=0.1)}
    assert not make(make_trainer, PlainTrainer, "grpo", **dropout).lean
    assert make(make_trainer, PlainTrainer, "grpo", leave_out_rows=True, **dropout).lean
    assert make(make_trainer, PlainTrainer, "grpo").lean
