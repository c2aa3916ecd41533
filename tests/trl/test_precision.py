"""Weights that are trained keep small updates; the computation, and what is not trained, is in the recipe's `dtype`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trl_world

from difference_feedback.errors import ConfigError
from difference_feedback.models.adapters import name_base
from difference_feedback.models.load import load_model
from difference_feedback.policy.train import host_config
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.repair.sft import sft_config
from difference_feedback.runs.check import check
from difference_feedback.runs.recipes import RepairSFTRecipe, TrainRecipe
from difference_feedback.trl import DFGRPOTrainer, precision
from difference_feedback.trl.precision import load_to_train, machine_settings

RATE = 1e-6  # the usual one of reinforcement learning


def recipe_of(**values: Any) -> TrainRecipe:
    return TrainRecipe.model_validate({"repair_model": "nano", "dtype": "bfloat16"} | values)


def share_moved(model: Any, before: dict[str, torch.Tensor]) -> float:
    """Of the trained weights."""
    moved = total = 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            moved += int((parameter != before[name]).sum())
            total += parameter.numel()
    return moved / total


def after_four_updates(model: Any, processor: Any, questions: Any, folder: Path, **changes: Any) -> float:
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    settings = {"max_steps": 4, "learning_rate": RATE, "warmup_steps": 0, "lr_scheduler_type": "constant"} | changes
    trainer = trl_world.ScriptedTrainer(
        model,
        trl_world.parity,
        trl_world.config(folder, **settings),
        train_dataset=questions,
        processing_class=processor,
        repairer=trl_world.FlipParity(),
    )
    trainer.train()
    return share_moved(model, before)


@pytest.mark.parametrize(
    ("lora", "share"),
    [
        (None, 0.5),
        ({"rank": 4, "alpha": 8}, 0.4),  # lora_A has no gradient in the first update, while lora_B is 0
    ],
)
def test_small_updates_move_the_weights_of_a_model_in_bf16(
    tmp_path: Path, questions: Any, lora: dict[str, Any] | None, share: float
) -> None:
    model, processor = load_to_train(recipe_of(lora=lora))
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    assert {p.dtype for p in model.parameters()} == ({torch.float32, torch.bfloat16} if lora else {torch.float32})
    assert after_four_updates(model, processor, questions, tmp_path, bf16=True) > share


def test_weights_in_bf16_hardly_move_and_are_refused(tmp_path: Path, questions: Any) -> None:
    model, processor = load_model("nano", dtype="bfloat16")
    with pytest.raises(ConfigError, match=r"bfloat16.*float32"):
        after_four_updates(model, processor, questions, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("difference_feedback.trl.trainer.refuse_low_precision", lambda *_: None)
        assert after_four_updates(model, processor, questions, tmp_path) < 0.1


def test_computation_is_in_the_recipes_type_before_a_trainer_has_the_model() -> None:
    seen: dict[str, set[torch.dtype]] = {}
    for dtype in ("float32", "bfloat16"):
        model, _ = load_to_train(recipe_of(dtype=dtype))
        layer = model.get_decoder().layers[0].mlp.down_proj
        hook = layer.register_forward_hook(lambda *io, dtype=dtype: seen.setdefault(dtype, set()).add(io[2].dtype))
        with torch.no_grad():
            model(input_ids=torch.tensor([[8, 9, 10]]))
        hook.remove()
    assert seen == {"float32": {torch.float32}, "bfloat16": {torch.bfloat16}}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_trl_computes_in_the_recipes_type(dtype: str) -> None:
    sft = RepairSFTRecipe.model_validate({"dtype": dtype})
    for config in (host_config(recipe_of(dtype=dtype)), sft_config(sft)):
        assert (config.bf16, config.fp16) == (dtype == "bfloat16", False)
    assert host_config(recipe_of(dtype="float32", trl={"bf16": True})).bf16, "what the recipe sets stands"
    assert machine_settings(recipe_of(dtype="float16"))["fp16"]


def test_a_recipe_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"dtype: bfloat16.*trl.bf16"):
        check(recipe_of(trl={"bf16": False}))
    check(recipe_of(trl={"bf16": False}, lora={"rank": 2}))  # a base in bf16, an adapter in float32


def test_deepspeed_gets_the_model_in_bf16_since_it_keeps_float32_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    model, _ = load_to_train(recipe_of())
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


class TestRepairer:
    """A repair model takes from the trainer what its user left open."""

    def test_all_is_left_open(self, make_trainer: Callable[..., Any], base: Path) -> None:
        repairer = LocalRepairer.from_pretrained(base)
        trainer = make_trainer(DFGRPOTrainer, repairer=repairer, bf16=True, max_completion_length=9)
        assert {p.dtype for p in repairer.model.parameters()} == {torch.bfloat16}
        assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
        buffers = {name: buffer for name, buffer in repairer.model.named_buffers() if buffer.is_floating_point()}
        assert buffers
        assert {buffer.dtype for buffer in buffers.values()} == {torch.float32}, "rotary frequencies"
        assert repairer.max_new_tokens == 9
        before = trl_world.weights_of(trainer.model)
        trainer.train()
        assert trainer.last_pairs or trainer.state.log_history
        assert before.keys() == trainer.model.state_dict().keys()

    def test_what_the_user_sets_stands(self, make_trainer: Callable[..., Any], base: Path) -> None:
        repairer = LocalRepairer.from_pretrained(base, dtype="float32", max_new_tokens=5)
        make_trainer(DFGRPOTrainer, repairer=repairer, bf16=True)
        assert {p.dtype for p in repairer.model.parameters()} == {torch.float32}
        assert repairer.max_new_tokens == 5

    def test_a_model_that_was_passed_in_stays_as_it_is(self, make_trainer: Callable[..., Any], base: Path) -> None:
        model, processor = load_model(str(base), dtype="bfloat16")
        repairer = LocalRepairer(model, processor, style="nano")
        make_trainer(DFGRPOTrainer, repairer=repairer)
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
        assert repairer.max_new_tokens == 12


@pytest.mark.parametrize("loaded", [False, True], ids=["new", "from a folder"])
@pytest.mark.parametrize("zero3", [False, True])
def test_an_adapter_has_the_type_of_its_base_where_zero3_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: bool, zero3: bool
) -> None:
    recipe = recipe_of(lora={"rank": 2})
    if loaded:
        load_to_train(recipe)[0].save_pretrained(tmp_path)
        name_base(tmp_path, "nano")
        recipe = recipe_of(model=str(tmp_path))
    monkeypatch.setattr(precision, "is_deepspeed_zero3_enabled", lambda: zero3)
    model, _ = load_to_train(recipe, whole=True)
    types = {parameter.requires_grad: parameter.dtype for parameter in model.parameters()}
    assert types == {False: torch.bfloat16, True: torch.bfloat16 if zero3 else torch.float32}
