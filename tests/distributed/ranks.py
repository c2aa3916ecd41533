"""What every rank of the distributed tests runs: the recipes' own functions, on the CPU over gloo.

Usage: accelerate launch --config_file recipes/accelerate/NAME.yaml ... ranks.py FOLDER CASE...
"""

import os
import sys
from pathlib import Path
from typing import Any

import accelerate.state
import numpy as np
import torch
from accelerate.utils import DistributedType
from transformers import GenerationMixin, LogitsProcessor, LogitsProcessorList
from trl import GRPOTrainer

from difference_feedback.policy.evaluation import evaluate_recipe
from difference_feedback.policy.train import train
from difference_feedback.repair.rl import train_rl
from difference_feedback.repair.sft import train_sft
from difference_feedback.runs.folder import Run
from difference_feedback.runs.recipes import EvaluateRecipe, RepairRLRecipe, RepairSFTRecipe, TrainRecipe

RANKS = int(os.environ.get("WORLD_SIZE", "1"))
TRL: dict[str, Any] = {
    **{"use_cpu": RANKS == 1, "bf16": False, "gradient_checkpointing": False, "logging_steps": 1},
    **{"optim": "sgd", "max_grad_norm": 0.0, "lr_scheduler_type": "constant", "warmup_steps": 0},
    **{"save_strategy": "steps", "save_steps": 2, "max_steps": 4},
}
MEASURED = {"problems": 16, "batch_size": 5, "max_new_tokens": 32}


def batch(rows: int) -> dict[str, int]:
    return {"per_device_train_batch_size": rows // RANKS}


def take_gloo_for_gpus() -> None:
    """accelerate shards only where it sees GPUs. What it would run over NCCL runs over gloo, on the CPU."""
    original = accelerate.state.PartialState._prepare_backend
    sharded = "true" in (os.environ.get("ACCELERATE_USE_FSDP"), os.environ.get("ACCELERATE_USE_DEEPSPEED"))

    def prepare(self: Any, cpu: bool = False, *args: Any, **kwargs: Any) -> Any:
        if cpu:
            return original(self, cpu, *args, **kwargs)
        return "gloo", DistributedType.MULTI_GPU if sharded else DistributedType.MULTI_CPU

    accelerate.state.PartialState._prepare_backend = prepare


class ByRow(LogitsProcessor):
    """Gumbel noise of a row's own: the most probable token is then a sample, which does not depend on the rank."""

    def __init__(self, keys: list[list[int]]) -> None:
        self.streams = [np.random.default_rng(key) for key in keys]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        noise = [stream.gumbel(size=scores.shape[1]) for stream in self.streams]
        return scores + torch.tensor(np.array(noise), dtype=scores.dtype)


def sample_by_row() -> None:
    """TRL seeds each rank's sampling by its rank. Here a row's answer depends on its prompt, copy and step alone."""
    trainer: list[Any] = []
    single_turn, generate = GRPOTrainer._generate_single_turn, GenerationMixin.generate

    def of_trainer(self: Any, *args: Any, **kwargs: Any) -> Any:
        trainer.append(self)
        try:
            return single_turn(self, *args, **kwargs)
        finally:
            trainer.pop()

    def of_model(self: Any, *args: Any, generation_config: Any = None, **kwargs: Any) -> Any:
        if not trainer or not generation_config.do_sample:
            return generate(self, *args, generation_config=generation_config, **kwargs)
        host = trainer[-1]
        rows = host.args.per_device_train_batch_size * host.args.steps_per_generation
        first = host.accelerator.process_index * rows
        keys = []
        for i, (ids, mask) in enumerate(zip(kwargs["input_ids"], kwargs["attention_mask"], strict=True)):
            prompt = ids[mask.bool()].tolist()
            keys.append([sum(prompt), len(prompt), (first + i) % host.num_generations if i < rows else 0, host._step])
        settings = {"do_sample": False, "logits_processor": LogitsProcessorList([ByRow(keys)])}
        return generate(self, *args, generation_config=generation_config, **kwargs, **settings)

    GRPOTrainer._generate_single_turn, GenerationMixin.generate = of_trainer, of_model


def sft(folder: Path) -> None:
    recipe = RepairSFTRecipe.model_validate(
        {"model": "nano", "drafts": 24, "evaluation": MEASURED, "trl": TRL | batch(8) | {"learning_rate": 0.05}}
    )
    train_sft(recipe, Run(folder / "sft", recipe))


def rl(folder: Path) -> None:
    trl = TRL | batch(16) | {"learning_rate": 0.5, "num_generations": 4, "max_completion_length": 32, "beta": 0.0}
    recipe = RepairRLRecipe.model_validate(
        {"model": "nano", "policy": "nano", "drafts": 12, "evaluation": MEASURED, "trl": trl}
    )
    train_rl(recipe, Run(folder / "rl", recipe))


def policy(folder: Path) -> None:
    trl = TRL | batch(32) | {"learning_rate": 0.2, "num_generations": 4, "max_completion_length": 32, "num_repairs": 1}
    recipe = TrainRecipe.model_validate(
        {
            **{"model": "nano", "repair_model": "nano", "repairs": {"style": "nano", "temperature": 0.0}},
            **{"problems": 40, "evaluation": MEASURED, "trl": trl},
        }
    )
    train(recipe, Run(folder / "policy", recipe))


def evaluate(folder: Path) -> None:
    recipe = EvaluateRecipe.model_validate({"model": str(folder / "policy" / "model"), "evaluation": MEASURED})
    evaluate_recipe(recipe, Run(folder / "evaluate", recipe))


CASES = {"sft": sft, "rl": rl, "policy": policy, "evaluate": evaluate}


def main(folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    if RANKS > 1:
        take_gloo_for_gpus()
    sample_by_row()
    for name in names:
        CASES[name](folder)
        import time
        print(name, time.process_time(), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    # gloo's threads outlive their group, and would abort the process at the interpreter's own end.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
