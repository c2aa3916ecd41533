"""A small world for the host's tests: a nano VLM with random weights, real images, a reward and a repairer by parity.

An answer is right when its token ids add up to an even number, so a random policy is right half of the time, and a
repair that changes one token by one makes a wrong answer right. Everything else is real: model, processor, TRL.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from difference_feedback.method.repairs import Repair, RepairRequest
from difference_feedback.trl import DFGRPOConfig, DFGRPOTrainer
from difference_feedback.trl.image_rows import FORWARD_FIELDS
from difference_feedback.world import sample_problems, to_dataset

FIRST_TEXT_ID = 10  # the special tokens stand before
EOS = 2
VISION_IDS = [3, 4, 5, 6, 7]


def load(path: Path) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    return (
        Qwen2_5_VLForConditionalGeneration.from_pretrained(path),
        Qwen2_5_VLProcessor.from_pretrained(path, padding_side="left"),
    )


def questions(count: int = 12) -> Dataset:
    """Questions of mixed length on images of mixed size; every third has two images."""
    problems = sample_problems("rl", 2 * count, seed=3)
    rows = []
    for i, row in enumerate(to_dataset(problems[:count])):
        if i % 3 == 1:
            row["images"] = row["images"] + list(problems[count + i].images)
            row["prompt"][0]["content"].insert(0, {"type": "image", "text": None})
        rows.append(row)
    return Dataset.from_list(rows)


def parity(completions: list[Any], completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [float(sum(ids) % 2 == 0) for ids in completion_ids]


class FlipParity:
    """Changes the token in the middle by one and, in finished answers, puts an even id before the end."""

    def repair(self, requests: list[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
        return [[self._repair(request.draft_ids)] * num_samples for request in requests]

    def _repair(self, draft: list[int]) -> Repair:
        ids = list(draft)
        middle = len(ids) // 2
        ids[middle] = ids[middle] + 1 if ids[middle] != EOS else FIRST_TEXT_ID + 1
        if len(ids) > 3 and ids[-1] == EOS:
            ids.insert(len(ids) - 1, FIRST_TEXT_ID + 2)
        return Repair(ids, "")


class ScriptedRollouts:
    """Mixin for TRL's trainers: answers that depend on the prompt, the place in the group and the step alone."""

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, fields: Any, num_generations: int, **_: Any
    ) -> tuple[list[list[int]], None]:
        offset = self.accelerator.process_index * len(prompt_ids)  # type: ignore[attr-defined]
        answers = []
        for i, prompt in enumerate(prompt_ids):
            copy = (offset + i) % num_generations
            rng = np.random.default_rng([sum(prompt), len(prompt), copy, self._step])  # type: ignore[attr-defined]
            length = int(rng.integers(3, 9))
            answers.append([*rng.integers(FIRST_TEXT_ID, 400, length).tolist(), EOS])
        return answers, None


class ScriptedTrainer(ScriptedRollouts, DFGRPOTrainer):
    pass


def config(folder: Path, kind: type = DFGRPOConfig, **changes: Any) -> Any:
    """Four answers a question, two questions a step, on the CPU in float32."""
    settings: dict[str, Any] = {
        **{"output_dir": str(folder), "per_device_train_batch_size": 8, "num_generations": 4},
        **{"max_completion_length": 12, "max_steps": 2, "learning_rate": 1e-3, "logging_steps": 1},
        **{"bf16": False, "gradient_checkpointing": False, "use_cpu": True, "report_to": [], "disable_tqdm": True},
        **{"save_strategy": "no", "seed": 1, "num_repairs": 1},
    }
    if not issubclass(kind, DFGRPOConfig):
        del settings["num_repairs"]
    return kind(**(settings | changes))


def first_batch(trainer: Any) -> dict[str, Any]:
    """The first micro-batch as TRL's loss reads it."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    return trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def plain_logps(model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
    """Log-probabilities of the completions by the model's own forward pass and log_softmax, `(B, T)`."""
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    fields = {name: inputs[name] for name in FORWARD_FIELDS if name in inputs and name != "num_images"}
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **fields).logits
    width = inputs["completion_ids"].size(1)
    logps = logits[:, -width - 1 : -1].log_softmax(-1)
    return logps.gather(2, inputs["completion_ids"][:, :, None]).squeeze(2)
