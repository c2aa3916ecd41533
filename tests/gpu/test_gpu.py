"""One CUDA device, bf16, one process: `make test-gpu`. The nano base by its recipes, a tiny Qwen2.5-VL by the trainers.

`TEST_DEVICE=cpu` runs the same bodies on the processor, in which case nothing is said about CUDA.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import asking, mixed_rows, picture
from datasets import Dataset
from trl import GRPOConfig, SFTConfig

from difference_feedback.data.repair_set import RepairExample
from difference_feedback.judges.answers import Rollout
from difference_feedback.method.repairs import RepairRequest
from difference_feedback.models.load import load_model
from difference_feedback.policy import train as policy_train
from difference_feedback.policy.evaluation import evaluate, evaluate_recipe
from difference_feedback.repair import rl, sft
from difference_feedback.repair.drafts import WrongDraft
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.repair.rl_data import rl_dataset
from difference_feedback.runs.folder import Run
from difference_feedback.runs.recipes import EvaluateRecipe, RepairRLRecipe, RepairSFTRecipe, TrainRecipe
from difference_feedback.trl import DFGRPOConfig, DFGRPOTrainer
from difference_feedback.world import correct_answers, sample_problems

DEVICE = os.environ.get("TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        DEVICE == "cuda" and not torch.cuda.is_available(),
        reason="NOTHING WAS TESTED: there is no CUDA device here; run `make test-gpu` on a machine with one",
    ),
]
EVALUATION = {"problems": 16, "batch_size": 16, "max_new_tokens": 48}
STEPS = {"per_device_train_batch_size": 16, "max_steps": 2, "logging_steps": 1, "learning_rate": 1e-3}
GROUPS = {"num_generations": 8, "max_completion_length": 32, "beta": 0.0}
QUIET = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no"}
BYTES_A_WEIGHT = 16  # the weight, its gradient and AdamW's two moments, each in float32


class Seen:
    """What a trainer's steps ran on."""

    def __init__(self) -> None:
        self.devices: set[str] = set()
        self.weights: set[torch.dtype] = set()
        self.computed: set[torch.dtype] = set()
        self.repairer: set[tuple[str, torch.dtype]] = set()

    def spied(self, kind: type[Any]) -> type[Any]:
        """`kind`, which notes devices and data types in every training step."""
        seen = self

        class Spied(kind):  # type: ignore[misc]
            def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
                model = self.accelerator.unwrap_model(self.model)
                seen.devices |= {p.device.type for p in model.parameters()}
                seen.weights |= {p.dtype for p in model.parameters() if p.requires_grad}
                layer = next(m for n, m in model.get_decoder().named_modules() if n.endswith("down_proj"))
                hook = layer.register_forward_hook(lambda *io: seen.computed.add(io[2].dtype))
                if isinstance(repairer := getattr(self, "repairer", None), LocalRepairer):
                    seen.repairer |= {(p.device.type, p.dtype) for p in repairer.model.parameters()}
                try:
                    return super().training_step(*args, **kwargs)
                finally:
                    hook.remove()

        return Spied


@pytest.fixture
def seen() -> Seen:
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return Seen()


def check_precision(seen: Seen, model: Any) -> None:
    """float32 weights on the device, computed in bf16, and memory for all of the optimiser's state."""
    assert seen.devices == {DEVICE}
    assert seen.weights == {torch.float32}
    assert seen.computed == {torch.bfloat16}
    if DEVICE == "cuda":
        assert torch.cuda.max_memory_allocated() > BYTES_A_WEIGHT * sum(p.numel() for p in model.parameters())


def moved(model: Any, start: Any) -> float:
    """The share of weights that differ."""
    pairs = list(zip(model.parameters(), start.parameters(), strict=True))
    changed = sum(int((a.detach().cpu() != b.detach().cpu()).sum()) for a, b in pairs)
    return changed / sum(a.numel() for a, _ in pairs)


# ---- the nano base, by recipes ----


def test_train_on_the_nano_base(tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"repair_model": "nano", "dtype": "bfloat16", "problems": 64, "evaluation": EVALUATION}
    recipe = TrainRecipe.model_validate(values | {"trl": STEPS | GROUPS | {"num_repairs": 1}})
    monkeypatch.setattr(policy_train, "DFGRPOTrainer", seen.spied(DFGRPOTrainer))
    run = Run(tmp_path / "run", recipe)
    summary = policy_train.train(recipe, run)
    trained, start = load_model(str(run.model_path))[0], load_model("nano")[0]
    check_precision(seen, start)
    assert seen.repairer == {(DEVICE, torch.bfloat16)}
    assert sum(row.get("df/pairs", 0) for row in run.metrics()) > 0
    assert moved(trained, start) > 0.5
    assert summary["accuracy"] > 0


def test_both_stages_of_a_repair_model_on_the_nano_base(
    tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = load_model("nano")[0]
    values = {"dtype": "bfloat16", "drafts": 16, "evaluation": EVALUATION}
    first = RepairSFTRecipe.model_validate(values | {"trl": STEPS})
    monkeypatch.setattr(sft, "RepairSFTTrainer", seen.spied(sft.RepairSFTTrainer))
    sft_run = Run(tmp_path / "sft", first)
    sft.train_sft(first, sft_run)
    check_precision(seen, start)
    after_sft = load_model(str(sft_run.model_path))[0]
    assert moved(after_sft, start) > 0.5

    seen_in_rl = Seen()
    second = RepairRLRecipe.model_validate(
        values
        | {"model": str(sft_run.model_path), "policy": "nano", "trl": STEPS | GROUPS, "text_only": {"samples": 0}}
    )
    monkeypatch.setattr(rl, "RepairGRPOTrainer", seen_in_rl.spied(rl.RepairGRPOTrainer))
    rl_run = Run(tmp_path / "rl", second)
    rl.train_rl(second, rl_run)
    check_precision(seen_in_rl, start)
    assert moved(load_model(str(rl_run.model_path))[0], after_sft) > 0.5


def test_evaluation_of_the_nano_base(tmp_path: Path) -> None:
    accuracies = {}
    for dtype in ("float32", "bfloat16"):
        recipe = EvaluateRecipe.model_validate({"dtype": dtype, "evaluation": EVALUATION | {"problems": 64}})
        accuracies[dtype] = evaluate_recipe(recipe, Run(tmp_path / dtype, recipe))["accuracy"]
    assert accuracies["float32"] > 0.3  # 0.5 on the processor
    assert abs(accuracies["float32"] - accuracies["bfloat16"]) < 0.15


# ---- a tiny Qwen2.5-VL with random weights, by the trainers ----


@pytest.fixture
def tiny(checkpoint: Callable[[str], Path]) -> tuple[Any, Any]:
    return load_model(str(checkpoint("qwen2_5_vl")))


def parity(completions: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
    """Half of a random model's answers are right."""
    return [float(sum(ids) % 2 == 0) for ids in completion_ids]


def test_a_tiny_qwen_trains_with_a_repair_model_of_its_class(
    tmp_path: Path, seen: Seen, tiny: tuple[Any, Any], checkpoint: Callable[[str], Path]
) -> None:
    model, processor = tiny
    prompts, images = mixed_rows((1, 2, 0, 3))
    rows = [{"prompt": prompt, "images": of_row} for prompt, of_row in zip(prompts, images, strict=True)]
    args = DFGRPOConfig(
        **QUIET | GROUPS,
        output_dir=str(tmp_path),
        per_device_train_batch_size=8,
        generation_batch_size=32,
        gradient_accumulation_steps=4,
        max_steps=2,
        learning_rate=1e-6,
        warmup_steps=0,
        bf16=True,
        use_cpu=DEVICE == "cpu",
    )
    repairer = LocalRepairer.from_pretrained(checkpoint("qwen2_5_vl"))
    trainer = seen.spied(DFGRPOTrainer)(
        model,
        parity,
        args,
        train_dataset=Dataset.from_list(rows),
        processing_class=processor,
        repairer=repairer,
    )
    trainer.train()
    assert trainer.last_pairs
    check_precision(seen, model)
    assert seen.repairer == {(DEVICE, torch.bfloat16)}
    assert moved(model, load_model(str(checkpoint("qwen2_5_vl")))[0]) > 0.3, "at the usual rate of 1e-6"


def test_both_stages_of_a_tiny_qwen(tmp_path: Path, seen: Seen, tiny: tuple[Any, Any], checkpoint: Any) -> None:
    model, processor = tiny
    end = sft.RepairCollator(processor, model.generation_config).written_end
    wrong = []
    for problem in sample_problems("rl", 8, 0):
        right = correct_answers(problem)[0]
        text = right.rsplit(" ", 1)[0] + " x"
        ids = [*processor.tokenizer.encode(text, add_special_tokens=False), end]
        wrong.append(WrongDraft(problem, Rollout(ids, text, False), right))
    examples = [
        RepairExample(str(i), w.problem.question, w.problem.images, w.draft.text, w.reference, w.reference)
        for i, w in enumerate(wrong)
    ]
    common = QUIET | {"output_dir": str(tmp_path), "max_steps": 2, "learning_rate": 1e-4, "bf16": True}
    common |= {"use_cpu": DEVICE == "cpu", "per_device_train_batch_size": 8}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sft, "RepairSFTTrainer", seen.spied(sft.RepairSFTTrainer))
        sft.fit_sft(
            model, processor, sft.sft_dataset(examples, processor, "full"), SFTConfig(**common, max_length=None)
        )
    check_precision(seen, model)
    start = load_model(str(checkpoint("qwen2_5_vl")))[0]
    assert moved(model, start) > 0.5

    after, seen_in_rl = {n: p.detach().cpu().clone() for n, p in model.named_parameters()}, Seen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rl, "RepairGRPOTrainer", seen_in_rl.spied(rl.RepairGRPOTrainer))
        rl.fit_rl(model, processor, rl_dataset(wrong, processor, "full"), GRPOConfig(**common | GROUPS), grade=parity)
    check_precision(seen_in_rl, model)
    assert any(not torch.equal(after[n], p.detach().cpu()) for n, p in model.named_parameters())


def test_greedy_repairs_and_answers_are_those_of_the_processor(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32. Sums are in another order there, so a close choice may differ: one repair in ten."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    folder = checkpoint("qwen2_5_vl")
    requests = []
    for i in range(20):
        images = [picture(10 * i + j) for j in range(1 + i % 2)]
        ids = [300 + (7 * i + k) % 200 for k in range(8)]
        requests.append(
            RepairRequest(asking("which is right ?" if i % 3 else "x", len(images)), images, ids, "answer 4")
        )
    settings: dict[str, Any] = {"dtype": "float32", "max_new_tokens": 12, "temperature": 0}
    on_device, on_cpu = (
        [row[0].token_ids for row in LocalRepairer.from_pretrained(folder, device=device, **settings).repair(requests)]
        for device in (DEVICE, "cpu")
    )
    assert len({tuple(ids) for ids in on_cpu}) > 10
    assert sum(a == b for a, b in zip(on_device, on_cpu, strict=True)) >= 18

    questions = sample_problems("test", 20, seed=0)
    model, processor = load_model("nano")
    cpu_answers = [p.response for p in evaluate(model, processor, questions).predictions]
    device_answers = [p.response for p in evaluate(model.to(DEVICE), processor, questions).predictions]
    assert sum(a == b for a, b in zip(device_answers, cpu_answers, strict=True)) >= 18
