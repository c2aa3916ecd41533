"""With every weight 1 and no replacement, the weighted trainer is TRL's GRPOTrainer, parameter for parameter."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer
from trl_world import VISION_IDS, weights_of

from difference_feedback.trl.objective import trl_settings

VARIANTS = {
    "grpo": {},
    "grpo-kl": {"beta": 0.1},
    "grpo-two-sided-clip": {"delta": 1.5, "epsilon_high": 0.3, "num_iterations": 2},
    "gspo": {"objective": "gspo"},
    "gspo-kl-several-updates": {"objective": "gspo", "beta": 0.1, "num_iterations": 2},
    "dapo-kl": {"objective": "dapo", "beta": 0.1},
    "dapo-corrected-kl": {"objective": "dapo", "beta": 0.1, "use_bias_correction_kl": True, "num_iterations": 2},
    "dr_grpo": {"objective": "dr_grpo"},
    "sapo-several-updates": {"objective": "sapo", "num_iterations": 2},
    "cispo-several-updates": {"objective": "cispo", "num_iterations": 2},
    "accumulation": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    "several-updates": {"num_iterations": 3, "max_steps": 5},
    "more-generated-than-accumulated": {"per_device_train_batch_size": 4, "steps_per_generation": 2, "beta": 0.1},
    "lora": {"beta": 0.1, "peft": True, "num_iterations": 2},
}


def _train(make_trainer: Callable[..., Any], kind: Any, **changes: Any) -> dict[str, torch.Tensor]:
    if changes.pop("peft", False):
        changes["peft_config"] = LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    # TRL suppresses the image token alone; equal sampling needs equal suppression.
    trainer = make_trainer(kind, generation_kwargs={"suppress_tokens": VISION_IDS}, **({"max_steps": 3} | changes))
    before = weights_of(trainer.model)
    trainer.train()
    after = weights_of(trainer.model)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    return after


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_of_one_without_replacement_are_trl(make_trainer: Callable[..., Any], variant: str) -> None:
    changes = dict(VARIANTS[variant])
    trls = trl_settings(changes.get("objective", "grpo")) | {"use_bias_correction_kl": False} | changes
    trls.pop("objective", None)
    plain = _train(make_trainer, GRPOTrainer, config_kind=GRPOConfig, **trls)

    from difference_feedback.trl import DFGRPOTrainer

    weighted = _train(
        make_trainer, DFGRPOTrainer, repairer=None, weights="ones", regroup=False, leave_out_rows=False, **changes
    )
    assert plain.keys() == weighted.keys()
    for name, value in plain.items():
        assert torch.equal(value, weighted[name]), name
