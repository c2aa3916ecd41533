"""LoRA: an adapter is trained, saved and loaded in place of the weights, and shares a base with the policy's."""

import json

import pytest
import torch

from difference_feedback.errors import ConfigError
from difference_feedback.models.adapters import with_lora
from difference_feedback.models.load import load_model
from difference_feedback.policy.train import train
from difference_feedback.repair.rl import train_rl
from difference_feedback.repair.sft import train_sft
from difference_feedback.runs.folder import Run
from difference_feedback.runs.model_folder import adapter_base
from difference_feedback.runs.recipes import RepairRLRecipe, RepairSFTRecipe, TrainRecipe
from difference_feedback.runs.sections import Lora
from difference_feedback.world import nano

SMALL = {"problems": 12, "max_new_tokens": 48, "batch_size": 12}
STEP = {"per_device_train_batch_size": 8, "max_steps": 2, "logging_steps": 1, "learning_rate": 1e-2}
GROUPS = {"num_generations": 4, "max_completion_length": 8, "gradient_checkpointing": False}


@pytest.fixture(scope="module")
def base():
    return nano.load_base()


def weights(model):
    return {name: p.clone() for name, p in model.named_parameters()}


def test_a_new_adapter_changes_nothing_and_is_all_that_is_trained(base):
    before = base[0].lm_head.weight.clone()
    wrapped = with_lora(nano.load_base()[0], Lora(rank=2), seed=3)
    trained = [name for name, p in wrapped.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name and "language_model" in name for name in trained)
    ids = torch.tensor([[8, 9, 10, 11]])
    with torch.no_grad():
        assert torch.equal(wrapped(input_ids=ids).logits, base[0](input_ids=ids).logits)
    assert torch.equal(base[0].lm_head.weight, before)


def test_its_random_half_comes_from_the_seed_alone():
    halves = []
    for seed in (3, 3, 4):
        torch.rand(1)
        wrapped = with_lora(nano.load_base()[0], Lora(rank=2), seed=seed)
        halves.append(torch.cat([p.flatten() for name, p in wrapped.named_parameters() if "lora_A" in name]))
    assert torch.equal(halves[0], halves[1])
    assert not torch.equal(halves[0], halves[2])


@pytest.mark.parametrize(
    ("settings", "says"), [({"targets": ["no_such_layer"]}, "lora.targets: .*no_such_layer"), ({}, "already")]
)
def test_what_cannot_be_adapted_is_said(settings, says):
    model = nano.load_base()[0]
    if not settings:
        model = with_lora(model, Lora(), seed=0)
    with pytest.raises(ConfigError, match=says):
        with_lora(model, Lora(**settings), seed=0)


def test_only_safetensors_are_read(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "nano"}))
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ConfigError, match=r"adapter_model\.safetensors"):
        load_model(str(tmp_path))


def test_repair_model_and_policy_are_two_adapters_on_one_base(tmp_path, base):
    """Both stages of the repair model and the policy, each an adapter; the base is the shipped one to the bit."""
    lora = {"rank": 4, "alpha": 8}
    sft = RepairSFTRecipe.model_validate(
        {"drafts": 12, "lora": lora, "evaluation": SMALL, "trl": STEP | {"gradient_checkpointing": False}}
    )
    sft_run = Run(tmp_path / "sft", sft)
    train_sft(sft, sft_run)
    assert adapter_base(sft_run.model_path) == "nano"
    assert not (sft_run.model_path / "model.safetensors").exists()

    start = str(sft_run.model_path)
    rl = RepairRLRecipe.model_validate(
        {"model": start, "drafts": 8, "evaluation": SMALL, "trl": STEP | GROUPS, "text_only": {"samples": 0}}
    )
    rl_run = Run(tmp_path / "rl", rl)
    train_rl(rl, rl_run)
    first, second = (load_model(str(run.model_path))[0] for run in (sft_run, rl_run))
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        if "lora_" not in name:
            assert torch.equal(a, b), f"{name} is of the base and was trained"
    moved = [
        n for (n, a), b in zip(first.named_parameters(), second.parameters(), strict=True) if not torch.equal(a, b)
    ]
    assert moved, "stage 2 goes on with the adapter of stage 1"

    recipe = TrainRecipe.model_validate(
        {
            **{"repair_model": str(rl_run.model_path), "lora": lora, "problems": 32, "evaluation": SMALL},
            "trl": STEP | GROUPS | {"max_completion_length": 24, "per_device_train_batch_size": 16},
        }
    )
    run = Run(tmp_path / "policy", recipe)
    repaired = []
    from difference_feedback.repair.local import LocalRepairer

    ask = LocalRepairer.repair
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            LocalRepairer,
            "repair",
            lambda self, *a, **k: repaired.append((self.adapter_name, self.model)) or ask(self, *a, **k),
        )
        train(recipe, run)
    assert {name for name, _ in repaired} == {"repair"}
    shared = repaired[0][1]
    assert set(shared.peft_config) == {"default", "repair"}
    kept = dict(second.named_parameters())
    for name, parameter in shared.named_parameters():
        if ".repair." in name:
            assert torch.equal(parameter, kept[name.replace(".repair.", ".default.")]), "the repairer is not trained"
    trained = load_model(str(run.model_path))[0]
    assert any("lora_B" in name and p.abs().sum() > 0 for name, p in trained.named_parameters())
    plain = dict(base[0].named_parameters())
    for name, parameter in trained.get_base_model().named_parameters():
        if "lora_" not in name:
            assert torch.equal(parameter, plain[name.replace(".base_layer", "")])
