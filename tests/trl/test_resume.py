"""A run that was interrupted and resumed equals one that was not, bit for bit, and a warning where it cannot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from trl import GRPOConfig
from trl_world import ScriptedTrainer, weights_of

from difference_feedback.trl import DFGRPOTrainer, ExactResume

VARIANTS = {
    "df-grpo": {},
    "several-updates": {"num_iterations": 2},
    "kl-accumulation": {"beta": 0.1, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    "trl-grpo": {"kind": ExactResume, "config_kind": GRPOConfig},
    "part-of-a-step-at-the-end-of-an-epoch": {
        **{"kind": ScriptedTrainer, "per_device_train_batch_size": 4},
        **{"gradient_accumulation_steps": 2, "steps_per_generation": 1},
    },
    "lora": {"peft_config": LoraConfig(r=4, target_modules=["q_proj"])},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_resumed_equals_uninterrupted(
    make_trainer: Callable[..., Any], questions: Any, tmp_path: Path, variant: str
) -> None:
    """Five questions and two a step: the checkpoint lies in the second pass over the data."""
    changes: dict[str, Any] = {"kind": DFGRPOTrainer, "max_steps": 6, "train_dataset": questions.select(range(5))}
    changes |= {"save_strategy": "steps", "save_steps": 4} | VARIANTS[variant]
    kind = changes.pop("kind")
    whole = make_trainer(kind, folder=tmp_path / "whole", **changes)
    whole.train()
    resumed = make_trainer(kind, folder=tmp_path / "resumed", **changes)
    start = weights_of(resumed.model)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert resumed.state.global_step == 6
    expected, actual = weights_of(whole.model), weights_of(resumed.model)
    assert any(not torch.equal(start[name], actual[name]) for name in start)
    for name, value in expected.items():
        assert torch.equal(value, actual[name]), name
    assert whole.state.num_input_tokens_seen == resumed.state.num_input_tokens_seen
    if kind is DFGRPOTrainer:
        sides = [
            [pair[side]["token_ids"] for pair in trainer.last_pairs for side in ("wrong", "repair")]
            for trainer in (whole, resumed)
        ]
        assert sides[0] == sides[1] != []


def test_a_checkpoint_between_two_generations_warns(make_trainer: Callable[..., Any], tmp_path: Path) -> None:
    changes: dict[str, Any] = {"num_iterations": 2, "save_strategy": "steps", "save_steps": 1}
    make_trainer(folder=tmp_path / "run", max_steps=1, **changes).train()
    with pytest.warns(UserWarning, match="between two generations"):
        make_trainer(max_steps=2, **changes).train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))


def test_the_best_checkpoint_is_loaded(make_trainer: Callable[..., Any], questions: Any, tmp_path: Path) -> None:
    """`load_best_model_at_end` meets the same names as resuming does."""
    trainer = make_trainer(
        eval_dataset=questions.select(range(2)),
        per_device_train_batch_size=16,
        **{"max_steps": 3, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1},
        **{"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": False},
    )
    trainer.train()
    trainer.state.best_model_checkpoint = str(tmp_path / "checkpoint-1")
    trainer._load_best_model()
    fresh = make_trainer(max_steps=1)
    fresh._load_from_checkpoint(str(tmp_path / "checkpoint-3"))
    last = weights_of(fresh.model)
    fresh._load_from_checkpoint(str(tmp_path / "checkpoint-1"))
    first, loaded = weights_of(fresh.model), weights_of(trainer.model)
    assert all(torch.equal(first[name], loaded[name]) for name in first)
    assert any(not torch.equal(last[name], loaded[name]) for name in last)
