"""An update without the rows that have no gradient trains the weights of one with all rows.

Plain SGD, since Adam would blow the rounding of another order of summation up to the size of a step.
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
from trl import GRPOConfig
from trl_world import ScriptedRollouts, ScriptedTrainer, weights_of

from difference_feedback.errors import ConfigError
from difference_feedback.method.repairs import Repair, RepairRequest
from difference_feedback.models.load import load_model
from difference_feedback.trl import ExactResume
from difference_feedback.trl.config import LeanGRPOConfig
from difference_feedback.trl.image_rows import ImageRows
from difference_feedback.trl.lean_update import has_gradient
from difference_feedback.trl.objective import trl_settings


class PlainTrainer(ScriptedRollouts, ExactResume):
    """GRPO on the scripted answers."""


class HostTrainer(ScriptedRollouts, ImageRows):
    """TRL's own update on them."""


def half_settled(prompts: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
    """Right by parity for half of the questions; all answers to the others are right, or all are wrong."""
    kinds = [sum(map(ord, prompt[0]["content"][-1]["text"])) % 4 for prompt in prompts]
    rights = (float(sum(ids) % 2 == 0) for ids in completion_ids)
    return [float(kind // 2) if kind % 2 else right for kind, right in zip(kinds, rights, strict=True)]


def none_right(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [0.0] * len(completion_ids)


class Picky(trl_world.FlipParity):
    """Finds no repair for one draft in three."""

    def repair(self, requests: list[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
        repairs = super().repair(requests, num_samples)
        return [[] if sum(r.draft_ids) % 3 == 0 else drawn for r, drawn in zip(requests, repairs, strict=True)]


ACCUMULATED = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
ROW_BY_ROW = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
SEVERAL = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "steps_per_generation": 4}
TWO_A_STEP = {"gradient_accumulation_steps": 2, "steps_per_generation": 8, "num_generations": 4}
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


@pytest.fixture
def make(checkpoint: Callable[[str], Path], tmp_path: Path) -> Callable[..., Any]:
    """A trainer of a tiny Qwen2.5-VL, of eight answers a step; every third question has no image."""
    questions = trl_world.questions()
    rows = questions.to_list()
    for row in rows[::3]:
        row["images"], row["prompt"][0]["content"] = [], row["prompt"][0]["content"][-1:]
    data = Dataset.from_list(rows, features=questions.features)

    def build(kind: type, objective: str, **changes: Any) -> Any:
        model, processor = load_model(str(checkpoint("qwen2_5_vl")))
        settings = {"max_steps": 10, "optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0, "logging_steps": 20}
        more: dict[str, Any] = {"repairer": Picky()} if kind is ScriptedTrainer else {}
        if changes.pop("lora", False):
            changes["peft"] = LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
        more["peft_config"], reward = changes.pop("peft", None), changes.pop("reward", half_settled)
        if kind is ScriptedTrainer:
            args = trl_world.config(tmp_path, **settings | {"objective": objective} | changes)
        else:
            config_kind = GRPOConfig if kind is HostTrainer else LeanGRPOConfig
            args = trl_world.config(tmp_path, config_kind, **settings | trl_settings(objective) | changes)
        return kind(model, reward, args, train_dataset=data, processing_class=processor, **more)

    return build


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


@pytest.mark.parametrize("case", CASES)
def test_the_weights_are_those_of_all_rows(make: Callable[..., Any], case: str) -> None:
    kind, objective, changes = CASES[case]
    every, all_rows, moved = trained(make(kind, objective, leave_out_rows=False, **changes))
    trainer = make(kind, objective, **changes)
    needed, rows, _ = trained(trainer)
    assert moved > 1e-3
    assert rows < all_rows
    assert_same(needed, every)
    assert any(row.get("rows_without_gradient") for row in trainer.state.log_history) == ("beta" not in changes)


def test_the_nano_model_by_adam(make_trainer: Callable[..., Any]) -> None:
    """A step without any gradient goes on by Adam's moments, as in TRL."""
    settings = {"config_kind": LeanGRPOConfig, "max_steps": 10, "adam_epsilon": 1e-3, "learning_rate": 1e-3}
    settings |= {"reward_funcs": half_settled, "per_device_train_batch_size": 4}
    every, all_rows, moved = trained(make_trainer(PlainTrainer, leave_out_rows=False, **settings))
    needed, rows, _ = trained(make_trainer(PlainTrainer, **settings))
    assert moved > 1e-3
    assert rows < 0.8 * all_rows
    assert_same(needed, every)


@pytest.mark.parametrize(
    ("kind", "objective", "changes"),
    [
        (ScriptedTrainer, "dapo", SEVERAL | {"max_grad_norm": 0.05}),
        (
            PlainTrainer,
            "grpo",
            ROW_BY_ROW | TWO_A_STEP | {"reward": none_right},
        ),
    ],
    ids=["fillers", "nothing right"],
)
def test_an_optimiser_that_moves_weights_by_a_gradient_of_0(
    make: Callable[..., Any], kind: type, objective: str, changes: dict[str, Any]
) -> None:
    """The vision tower has one in a step with an image, if only in a row that is left out, and none in the others."""
    adam = {"optim": "adamw_torch", "adam_epsilon": 1e-2, "weight_decay": 0.1, "learning_rate": 1e-2}
    every, all_rows, moved = trained(make(kind, objective, leave_out_rows=False, **adam, **changes))
    needed, rows, _ = trained(make(kind, objective, **adam, **changes))
    assert moved > 1e-3
    assert rows <= all_rows
    assert_same(needed, every)


def test_advantages_of_tokens() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 1, 0]])
    advantages = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.5, 0.0, 0.0]])
    batch = {"completion_mask": mask, "advantages": advantages}
    assert has_gradient(batch, kl=False).tolist() == [False, True, True]
    assert has_gradient(batch | {"weights": 1 - advantages.sign()}, kl=False).tolist() == [False, False, False]


def test_switched_off_it_is_trl(make: Callable[..., Any]) -> None:
    ours, _, _ = trained(make(PlainTrainer, "dapo", leave_out_rows=False, max_steps=3, **SEVERAL))
    assert_same(trained(make(HostTrainer, "dapo", max_steps=3, **SEVERAL))[0], ours, tolerance=0.0)


def test_where_all_rows_have_a_gradient_nothing_changes(make: Callable[..., Any]) -> None:
    def ranks(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [float(sum(ids)) for ids in completion_ids]

    ours, _, _ = trained(make(PlainTrainer, "grpo", reward=ranks, max_steps=3, **SEVERAL))
    host, _, _ = trained(make(HostTrainer, "grpo", reward=ranks, max_steps=3, **SEVERAL))
    assert_same(host, ours, tolerance=0.0)


@pytest.mark.parametrize(
    "setting",
    [{"beta": 0.1}, {"loss_type": "bnpo"}, {"top_entropy_quantile": 0.5}, {"entropy_coef": 0.1}],
    ids=lambda setting: next(iter(setting)),
)
def test_settings_that_need_all_rows(make: Callable[..., Any], setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"leave_out_rows.*{next(iter(setting))}"):
        make(PlainTrainer, "grpo", **setting, leave_out_rows=True)
    assert len(trl_world.first_batch(make(PlainTrainer, "grpo", **setting))["prompt_ids"]) == 8


def test_a_model_that_draws_in_training_keeps_its_draws(make: Callable[..., Any]) -> None:
    dropout = LoraConfig(r=4, target_modules=["q_proj"], lora_dropout=0.1)
    assert not make(PlainTrainer, "grpo", peft=dropout).lean
    assert make(PlainTrainer, "grpo", peft=dropout, leave_out_rows=True).lean
    assert make(PlainTrainer, "grpo").lean
