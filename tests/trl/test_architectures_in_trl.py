"""Every architecture through TRL: each row's log-probabilities are its own, and a step on real pairs trains."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trl_world
from architectures import NAMES, mixed_rows
from datasets import Dataset
from trl import GRPOConfig, SFTConfig
from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

from difference_feedback.data.repair_set import RepairExample
from difference_feedback.judges.answers import Rollout
from difference_feedback.method.repairs import Repair, RepairRequest
from difference_feedback.models.load import load_model
from difference_feedback.repair.blank_image import BlankImageFactor
from difference_feedback.repair.drafts import WrongDraft
from difference_feedback.repair.rl import fit_rl
from difference_feedback.repair.rl_data import rl_dataset
from difference_feedback.repair.sft import RepairCollator, fit_sft, sft_dataset
from difference_feedback.trl import DFGRPOTrainer
from difference_feedback.trl.image_rows import select_rows
from difference_feedback.trl.row_exchange import join_rows, pack_rows, unpack_rows
from difference_feedback.world import correct_answers, sample_problems

pytestmark = pytest.mark.parametrize("name", NAMES)
COUNTS = [(1, 2, 1, 3), (1, 0, 2, 1), (0, 0, 0, 0)]
"""Images of each prompt: several, mixed with rows that have none, and no images at all."""
CPU = {"bf16": False, "use_cpu": True, "gradient_checkpointing": False, "report_to": "none", "disable_tqdm": True}


class NextToken:
    """Puts an ordinary token of the other parity in the middle, which mends what `trl_world.parity` finds wrong."""

    def repair(self, requests: list[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
        return [[self._repair(list(request.draft_ids))] * num_samples for request in requests]

    def _repair(self, ids: list[int]) -> Repair:
        middle = len(ids) // 2
        ids[middle] = 300 + (ids[middle] + 1) % 2
        return Repair(ids, "")


@pytest.fixture
def loaded(checkpoint: Callable[[str], Path], name: str) -> tuple[Any, Any]:
    return load_model(str(checkpoint(name)))


@pytest.fixture
def make(loaded: tuple[Any, Any], tmp_path: Path) -> Callable[..., Any]:
    """A trainer of the four prompts, which have `counts` images; 16 answers a step in four micro-batches."""

    def build(counts: tuple[int, ...]) -> Any:
        model, processor = loaded
        prompts, images = mixed_rows(counts)
        rows = [{"prompt": prompt, "images": of_row} for prompt, of_row in zip(prompts, images, strict=True)]
        settings = {"per_device_train_batch_size": 4, "generation_batch_size": 16, "gradient_accumulation_steps": 4}
        return DFGRPOTrainer(
            model,
            trl_world.parity,
            trl_world.config(tmp_path, **settings, max_completion_length=8, max_steps=1),
            train_dataset=Dataset.from_list(rows),
            processing_class=processor,
            repairer=NextToken(),
        )

    return build


def micro_batches(trainer: Any) -> list[dict[str, Any]]:
    """What TRL's loss reads in the first step, in the order and the parts that TRL makes."""
    trl_world.first_batch(trainer)
    assert trainer.last_pairs
    return [batch for batch in trainer._buffered_inputs if batch]


def as_if_moved(trainer: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """The same rows, the first half of which come from another rank."""
    half = len(batch["prompt_ids"]) // 2
    if not half:
        return batch
    moved = unpack_rows(*pack_rows(select_rows(batch, range(half))))
    stay = select_rows(batch, range(half, len(batch["prompt_ids"])))
    return join_rows([moved, stay], trainer.processing_class.tokenizer.pad_token_id)


def logps_of(trainer: Any, batch: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        return trainer._logps(trainer.model, batch)


def alone(trainer: Any, prompt_ids: list[int], completion: torch.Tensor) -> torch.Tensor:
    """`(T,)`, without padding: the model's own forward pass on what its processor makes of the row with this prompt."""
    processor = trainer.processing_class
    for row in trainer.train_dataset:
        parts = [
            {name: part[name] for name in ("type", "text") if part.get(name)} for part in row["prompt"][0]["content"]
        ]
        turns = [{"role": "user", "content": parts}]
        text = processor.apply_chat_template([turns], add_generation_prompt=True, tokenize=False)
        images = [row["images"]] if row["images"] else None
        inputs = processor(text=text, images=images, add_special_tokens=False, return_tensors="pt")
        if inputs["input_ids"][0].tolist() == prompt_ids:
            break
    else:
        raise AssertionError("no row has this prompt")
    ids = torch.cat([inputs["input_ids"], completion[None]], dim=1)
    fields = dict(inputs) | {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for field in ("token_type_ids", "mm_token_type_ids"):
        if field in fields:
            fields[field] = torch.cat([fields[field], torch.zeros_like(completion[None])], dim=1)
    with torch.no_grad():
        logits = trainer.model(**fields, use_cache=False).logits[0, -len(completion) - 1 : -1]
    return logits.log_softmax(-1).gather(1, completion[:, None]).squeeze(1)


@pytest.mark.parametrize("counts", COUNTS)
def test_a_row_alone_has_the_log_probabilities_that_it_has_in_the_batch(
    make: Callable[..., Any], counts: tuple[int, ...]
) -> None:
    trainer = make(counts)
    compared = 0
    for batch in micro_batches(trainer):
        together = logps_of(trainer, batch)  # row by row
        batch = as_if_moved(trainer, batch)
        with torch.no_grad():
            ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
            mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
            width = batch["completion_ids"].size(1)
            fields = {name: batch[name] for name in trl_world.FORWARD_FIELDS if name in batch}
            whole = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width, **fields)[0]
        for i, attended in enumerate(batch["completion_mask"].bool()):
            if not attended.any():  # a filler row
                continue
            prompt = batch["prompt_ids"][i][batch["prompt_mask"][i].bool()].tolist()
            expected = alone(trainer, prompt, batch["completion_ids"][i][attended])
            torch.testing.assert_close(together[i][attended], expected, atol=2e-4, rtol=1e-4)
            torch.testing.assert_close(whole[i][attended], expected, atol=2e-4, rtol=1e-4)
            compared += 1
    assert compared > 4


def test_another_image_changes_the_row_that_shows_it_and_no_other(make: Callable[..., Any]) -> None:
    trainer = make((1, 2, 1, 3))
    batch = micro_batches(trainer)[0]
    trainer.model.eval()
    before = logps_of(trainer, batch)
    for i in batch["completion_mask"].any(dim=1).nonzero().flatten().tolist():  # no filler rows
        rows = split_pixel_values_by_grid(batch)
        rows["pixel_values"] = [-p if row == i else p for row, p in enumerate(rows["pixel_values"])]
        after = logps_of(trainer, unsplit_pixel_values_by_grid(rows))
        changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert changed == [row == i for row in range(len(before))]


def moved(model: torch.nn.Module, before: dict[str, torch.Tensor]) -> list[str]:
    return [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]


@pytest.mark.parametrize("counts", COUNTS[:2])
def test_a_step_on_real_pairs_trains_both_towers(make: Callable[..., Any], counts: tuple[int, ...]) -> None:
    trainer = make(counts)
    before = trl_world.weights_of(trainer.model)
    trainer.train()
    assert trainer.last_pairs
    names = moved(trainer.model, before)
    assert any("vision" in name or "visual" in name for name in names)
    assert any("language_model" in name or "text_model" in name for name in names)


def drafts(processor: Any, end: int) -> list[WrongDraft[Any]]:
    result = []
    for problem in sample_problems("rl", 4, 0):
        right = correct_answers(problem)[0]
        text = right.rsplit(" ", 1)[0] + " x"
        ids = processor.tokenizer.encode(text, add_special_tokens=False)
        result.append(WrongDraft(problem, Rollout([*ids, end], text, False), right))
    return result


def test_both_stages_of_a_repair_model_train(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    model, processor = loaded
    wrong = drafts(processor, RepairCollator(processor, model.generation_config).written_end)
    examples = [
        RepairExample(str(i), w.problem.question, w.problem.images, w.draft.text, w.reference, w.reference)
        for i, w in enumerate(wrong)
    ]
    common = CPU | {"output_dir": str(tmp_path), "max_steps": 1, "learning_rate": 1e-3, "save_strategy": "no"}
    before = trl_world.weights_of(model)
    args = SFTConfig(**common, per_device_train_batch_size=4, max_length=None)
    fit_sft(model, processor, sft_dataset(examples, processor, "full"), args)
    assert moved(model, before)

    before = trl_world.weights_of(model)
    args = GRPOConfig(**common, per_device_train_batch_size=8, num_generations=4, max_completion_length=8)
    factors = {"visual": BlankImageFactor(lambda completions, **_: [0.0] * len(completions), ["blank"])}
    dataset = rl_dataset(wrong, processor, "full")
    trainer = fit_rl(model, processor, dataset, args, grade=trl_world.parity, factors=factors)
    assert moved(model, before)
    assert trainer.state.log_history[0]["repair/edit_cost"] > 0
