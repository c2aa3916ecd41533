"""DF-DPO: TRL's loss on weighted log-ratios is the host-free specification; weights of one are TRL's DPO."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trl_world
from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer
from trl_world import gradients, weights_of

from difference_feedback.errors import ConfigError
from difference_feedback.method.objectives import surrogate_loss
from difference_feedback.trl import DFDPOConfig, DFDPOTrainer

ANSWERS = [
    ("first the digits: 3 5 9. 3 plus 6 is 9.", "first the digits: 3 5 9. 3 plus 5 is 8."),
    ("the answer is 17", "so the answer is 9 and 17"),
    ("4 and 4. 8", "4 and 4. 8"),  # the same: nothing to learn
    ("row by row: 2 1. then 3 in all", "row by row: 2 2. then 4 in all"),
]


@pytest.fixture(scope="module")
def preferences(questions: Dataset) -> Dataset:
    def answer(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    pairs = [{"chosen": answer(chosen), "rejected": answer(rejected)} for chosen, rejected in ANSWERS]
    rows = [
        {"prompt": row["prompt"], "images": row["images"], **pair} for row, pair in zip(questions, pairs, strict=False)
    ]
    return Dataset.from_list(rows)


@pytest.fixture
def make(base: Path, preferences: Dataset, tmp_path: Path) -> Callable[..., Any]:
    def make(kind: type = DFDPOTrainer, config: type = DFDPOConfig, peft_config: Any = None, **changes: Any) -> Any:
        model, processor = trl_world.load(base)
        settings: dict[str, Any] = {
            **{"output_dir": str(tmp_path), "per_device_train_batch_size": 4, "max_steps": 2, "learning_rate": 1e-2},
            **{"bf16": False, "gradient_checkpointing": False, "use_cpu": True, "report_to": [], "disable_tqdm": True},
            **{"save_strategy": "no", "logging_steps": 1, "max_length": None, "beta": 0.3},
        }
        return kind(
            model=model,
            args=config(**(settings | changes)),
            train_dataset=preferences,
            processing_class=processor,
            peft_config=peft_config,
        )

    return make


def batch_of(trainer: Any) -> dict[str, Any]:
    trainer.model.train()
    return trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))


def plain_logps(model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
    """By the model's own forward pass and log_softmax, `(2P, L - 1)`."""
    fields = {k: v for k, v in inputs.items() if k not in ("completion_mask", "weights")}
    logits = model(**fields, use_cache=False).logits[:, :-1].log_softmax(-1)
    return logits.gather(2, inputs["input_ids"][:, 1:, None]).squeeze(2)


@pytest.mark.parametrize(
    "changes",
    [{}, {"sigma": 2.0}, {"granularity": "step"}, {"alignment_method": "lcs"}, {"root_cause": True}],
    ids=lambda changes: "-".join(changes) or "mask",
)
def test_equals_the_specification(make: Callable[..., Any], changes: dict[str, Any]) -> None:
    trainer = make(**changes)
    with torch.no_grad():
        for parameter in trainer.model.parameters():  # away from the reference, where every margin is 0
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    inputs = batch_of(trainer)
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    actual = gradients(trainer.model)
    trainer.model.zero_grad()

    weights, mask = inputs["weights"][:, 1:], inputs["completion_mask"][:, 1:]
    assert 0 < weights.sum() < mask.sum()
    assert (weights[mask == 0] == 0).all()
    pairs = len(mask) // 2
    with torch.no_grad():
        reference = plain_logps(trainer.ref_model, inputs)
    expected = surrogate_loss(
        *(plain_logps(trainer.model, inputs), reference, torch.tensor([1.0] * pairs + [-1.0] * pairs), weights, mask),
        *("dpo",),
        beta=0.3,
        pairs=torch.arange(pairs).repeat(2),
    )
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    wanted = gradients(trainer.model)
    scale = max(float(g.abs().max()) for g in wanted.values())
    for name, gradient in actual.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-5 * scale, msg=name)


def test_unweighted_tokens_get_no_gradient(make: Callable[..., Any]) -> None:
    trainer = make()
    inputs = batch_of(trainer)
    states: list[torch.Tensor] = []

    def keep(module: Any, args: Any, output: torch.Tensor) -> None:
        if output.requires_grad:
            output.retain_grad()
            states.append(output)

    trainer.model.model.language_model.norm.register_forward_hook(keep)
    trainer.compute_loss(trainer.model, inputs).backward()
    (state,) = states
    assert state.grad is not None
    moved = state.grad[:, :-1].abs().amax(2) > 0
    assert torch.equal(moved, inputs["weights"][:, 1:] > 0)


@pytest.mark.parametrize("lora", [False, True])
def test_without_weights_it_is_trls(make: Callable[..., Any], lora: bool) -> None:
    adapter = {"peft_config": LoraConfig(r=4, target_modules=["q_proj", "v_proj"])} if lora else {}
    trained = []
    for trainer in (make(DPOTrainer, DPOConfig, **adapter), make(weights="ones", **adapter)):
        trainer.train()
        trained.append(weights_of(trainer.model))
    for name, value in trained[0].items():
        assert torch.equal(value, trained[1][name]), name


@pytest.mark.parametrize("lora", [False, True])
def test_training_raises_the_weighted_margin(make: Callable[..., Any], lora: bool) -> None:
    adapter = {"peft_config": LoraConfig(r=4, target_modules=["q_proj", "v_proj"])} if lora else {}
    trainer = make(max_steps=8, learning_rate=3e-2 if lora else 1e-2, **adapter)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "rewards/margins" in row]
    assert rows[0]["rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert rows[-1]["rewards/margins"] > 0.1
    assert rows[0]["df/identical_pairs"] == 1
    assert 0 < rows[0]["df/weight_density/rejected"] < 0.6


def test_what_cannot_be_right_is_refused(tmp_path: Path, make: Callable[..., Any]) -> None:
    for changes, message in [
        ({"loss_type": ["ipo"]}, "verified with"),
        ({"f_divergence_type": "forward_kl"}, "reverse_kl"),
        ({"ld_alpha": 0.5}, "leave it None"),
        ({"use_weighting": True}, "leave it off"),
        ({"precompute_ref_log_probs": True}, "not weighted"),
        ({"weights": "half"}, "choose one of mask, ones"),
        ({"granularity": "word"}, "choose one of token, step"),
    ]:
        with pytest.raises(ConfigError, match=message):
            DFDPOConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, **changes)
    with pytest.raises(ConfigError, match="needs a DFDPOConfig"):
        make(DFDPOTrainer, DPOConfig)
