"""What every rank of the distributed tests runs: the recipes' own functions, on the CPU over gloo.

Usage: accelerate launch --config_file recipes/accelerate/NAME.yaml ... ranks.py FOLDER CASE...
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import accelerate.state
import numpy as np
import torch
from accelerate.utils import DistributedType, gather_object
from transformers import GenerationMixin, LogitsProcessor, LogitsProcessorList, TrainerCallback
from transformers.trainer import DEFAULT_CALLBACKS
from trl import GRPOTrainer

from difference_feedback.judges.questions import training_data, training_problems
from difference_feedback.method.repairs import RepairRequest
from difference_feedback.models.load import load_model
from difference_feedback.models.ranks import ranks
from difference_feedback.policy.evaluation import evaluate_recipe
from difference_feedback.policy.train import host_config, load_repairer, train
from difference_feedback.repair.embedded import embedded_repairer
from difference_feedback.repair.rl import train_rl
from difference_feedback.repair.sft import train_sft
from difference_feedback.runs.folder import Run
from difference_feedback.runs.recipes import EvaluateRecipe, RepairRLRecipe, RepairSFTRecipe, TrainRecipe
from difference_feedback.trl import DFGRPOTrainer
from difference_feedback.world import sample_problems

RANKS = int(os.environ.get("WORLD_SIZE", "1"))
TRL: dict[str, Any] = {
    **{"use_cpu": RANKS == 1, "bf16": False, "gradient_checkpointing": False, "logging_steps": 1},
    **{"optim": "sgd", "max_grad_norm": 0.0, "lr_scheduler_type": "constant", "warmup_steps": 0},
    **{"save_strategy": "steps", "save_steps": 2, "max_steps": 4},
}
SAMPLED = {"num_generations": 4, "max_completion_length": 32}
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


@contextmanager
def sampling_by_row() -> Iterator[None]:
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
    yield
    GRPOTrainer._generate_single_turn, GenerationMixin.generate = single_turn, generate


def sft(folder: Path, **trl: Any) -> None:
    recipe = RepairSFTRecipe.model_validate(
        {"model": "nano", "drafts": 24, "evaluation": MEASURED, "trl": TRL | batch(8) | {"learning_rate": 0.05} | trl}
    )
    train_sft(recipe, Run(folder / "sft", recipe))


def rl(folder: Path, **trl: Any) -> None:
    trl = TRL | batch(16) | SAMPLED | {"learning_rate": 0.5, "beta": 0.0} | trl
    recipe = RepairRLRecipe.model_validate(
        {"model": "nano", "policy": "nano", "drafts": 12, "evaluation": MEASURED, "trl": trl}
    )
    train_rl(recipe, Run(folder / "rl", recipe))


def policy_recipe(changes: dict[str, Any] | None = None, **trl: Any) -> TrainRecipe:
    trl = TRL | batch(32) | SAMPLED | {"learning_rate": 0.2, "num_repairs": 1} | trl
    return TrainRecipe.model_validate(
        {
            **{"model": "nano", "repair_model": "nano", "repairs": {"style": "nano", "temperature": 0.0}},
            **{"problems": 40, "evaluation": MEASURED, "trl": trl, **(changes or {})},
        }
    )


def policy(folder: Path, **trl: Any) -> None:
    recipe = policy_recipe(**trl)
    train(recipe, Run(folder / "policy", recipe))


def evaluate(folder: Path) -> None:
    recipe = EvaluateRecipe.model_validate({"model": str(folder / "policy" / "model"), "evaluation": MEASURED})
    evaluate_recipe(recipe, Run(folder / "evaluate", recipe))


def equal(folder: Path) -> None:
    """Each recipe once, with plain SGD and sampling that does not depend on the rank."""
    with sampling_by_row():
        sft(folder)
        rl(folder)
        policy(folder)
    evaluate(folder)


def repairs(folder: Path) -> None:
    """A repair model beside a policy that is sharded: each rank asks it for another number of repairs."""
    recipe = policy_recipe()
    config = host_config(recipe)  # it says how the launch shards
    model, processor = load_model("nano")
    repairer = load_repairer(recipe, config, model, processor)
    drafts = [processor.tokenizer.encode(text, add_special_tokens=False) for text in ("3 + 4 = 8 .", "2 , 5 , 1 .")]
    problems = sample_problems("rl", 2, seed=5)
    requests = [RepairRequest(p.prompt, list(p.images), ids, "7") for p, ids in zip(problems, drafts, strict=True)]
    answers = [[repair.token_ids for repair in found] for found in repairer.repair(requests)]
    for _ in range(ranks().process_index):
        repairer.repair(requests)
    everywhere = gather_object([answers])
    if ranks().is_main_process:
        (folder / "repairs.json").write_text(json.dumps(everywhere))


def lora(folder: Path) -> None:
    """A policy's adapter and a repair model's on the same base."""
    adapter = {"lora": {"rank": 4}, "evaluation": MEASURED | {"problems": 8}}
    settings = {"model": "nano", "drafts": 8, "trl": TRL | batch(8) | {"max_steps": 2, "learning_rate": 0.05}} | adapter
    stage = RepairSFTRecipe.model_validate(settings)
    train_sft(stage, Run(folder / "lora" / "sft", stage))
    changes = {"repair_model": str(folder / "lora" / "sft" / "model")} | adapter
    recipe = policy_recipe(changes, learning_rate=5.0, max_steps=2)
    with sampling_by_row():
        train(recipe, Run(folder / "lora" / "policy", recipe))


class ForThreeSteps:
    """The oracle's repairs: in the first step on all ranks, in the next two on the last rank alone, then none."""

    def __init__(self, oracle: Any) -> None:
        self.oracle, self.calls = oracle, 0

    def repair(self, requests: list[RepairRequest], num_samples: int = 1) -> list[Any]:
        if self.calls == 0 or (self.calls <= 2 and ranks().is_last_process):
            return self.oracle.repair(requests, num_samples)
        return [[] for _ in requests]


class Movements(TrainerCallback):
    """The largest change of a weight in each step, over all ranks' shards."""

    trainer: Any
    before: dict[str, torch.Tensor] | None = None

    def __init__(self) -> None:
        self.moved: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        after = self.trainer.accelerator.get_state_dict(self.trainer.model_wrapped)
        if ranks().is_main_process:
            after = {name: value.detach().cpu().clone() for name, value in after.items()}
            if self.before is not None:
                self.moved.append(max(float((after[name] - self.before[name]).abs().max()) for name in after))
            self.before = after

    on_train_begin = on_step_end


def still(folder: Path) -> None:
    """Steps without a pair, after others that warmed AdamW's moments."""
    adam = {"optim": "adamw_torch", "learning_rate": 1e-3, "weight_decay": 0.1, "save_strategy": "no", "max_steps": 5}
    recipe = policy_recipe(**adam)
    config = host_config(recipe, folder / "still")
    model, processor = load_model("nano")
    dataset, grader = training_data(recipe)
    movements = Movements()
    movements.trainer = trainer = DFGRPOTrainer(
        model=model,
        reward_funcs=[grader.reward],
        args=config,
        train_dataset=dataset,
        processing_class=processor,
        callbacks=[movements],
        repairer=ForThreeSteps(embedded_repairer("oracle", processor.tokenizer, training_problems(recipe))),
    )
    trainer.train()
    pairs = [row["df/pairs"] for row in trainer.state.log_history if "df/pairs" in row]
    if ranks().is_main_process:
        (folder / "still.json").write_text(json.dumps({"moved": movements.moved, "pairs": pairs}))


class Interrupted(Exception):
    """What ends a run in its third step, after a checkpoint in its second."""


class Interrupt(TrainerCallback):
    kill: ClassVar[bool | None] = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 3 and self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if state.global_step == 3 and self.kill is False:
            raise Interrupted


ADAM: dict[str, Any] = {
    "optim": "adamw_torch",
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "lr_scheduler_type": "cosine",
    "gradient_checkpointing": True,
}


def whole(folder: Path) -> None:
    """Uninterrupted, with AdamW, a schedule, and TRL's own sampling."""
    for case in (sft, rl, policy):
        case(folder / "whole", **ADAM)


def cut(folder: Path) -> None:
    """The same, interrupted: the first two by an exception, the last one by SIGKILL of every rank."""
    for case in (sft, rl, policy):
        Interrupt.kill = case is policy
        with suppress(Interrupted):
            case(folder / "cut", **ADAM)


def resume(folder: Path) -> None:
    """`cut` again, to the end."""
    for case in (sft, rl, policy):
        case(folder / "cut", **ADAM)


CASES = {case.__name__: case for case in (equal, repairs, lora, still, whole, cut, resume)}


def main(folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    if RANKS > 1:
        take_gloo_for_gpus()
    DEFAULT_CALLBACKS.append(Interrupt)
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
