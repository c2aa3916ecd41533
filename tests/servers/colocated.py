"""Train by TRL with vLLM in the same process (`vllm_mode: colocate`), on the CPU: `test_vllm_runs.py` runs this.

    PYTHONPATH=src:tests:tests/servers/vllm_startup python -m servers.colocated policy|adapter|repair MODEL OUT

The Python is that of vLLM. `MODEL` is a folder with the widened nano base. Results are printed as one line of JSON. Two
things differ from a GPU, and are set aside here: on a processor vLLM packs the weights once and for all, and takes no
others after that; and it would sample in bfloat16.
"""

import functools
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import GRPOConfig
from trl.generation import vllm_generation
from vllm.model_executor.layers import utils

from difference_feedback import world
from difference_feedback.judges.answers import Rollout
from difference_feedback.models.adapters import with_lora
from difference_feedback.repair.blank_image import BlankImageFactor
from difference_feedback.repair.drafts import WrongDraft
from difference_feedback.repair.embedded import embedded_repairer
from difference_feedback.repair.rl import fit_rl
from difference_feedback.repair.rl_data import rl_dataset
from difference_feedback.runs.sections import Lora
from difference_feedback.trl import DFGRPOConfig, DFGRPOTrainer

SETTINGS = {
    **{"max_steps": 2, "per_device_train_batch_size": 16, "num_generations": 8, "max_completion_length": 48},
    **{"use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": 0.2, "vllm_max_model_length": 1024},
    **{"learning_rate": 1e-3, "lr_scheduler_type": "constant", "logging_steps": 1, "save_strategy": "no"},
    **{"bf16": False, "use_cpu": True, "report_to": "none", "gradient_checkpointing": False, "beta": 0.0},
}


def keep_weights(layer, remove_weight):
    layer.cpu_linear = torch.nn.functional.linear


def policy(model, processor, config):
    problems = world.sample_problems("rl", 8, 0)
    trainer = DFGRPOTrainer(
        model,
        [world.correctness_reward],
        DFGRPOConfig(**config),
        train_dataset=world.to_dataset(problems),
        processing_class=processor,
        repairer=embedded_repairer("oracle", processor.tokenizer, problems),
    )
    trainer.train()
    return trainer


def repair(model, processor, config):
    drafts = []
    for problem in world.sample_problems("rl", 8, 0):
        form = world.TASKS[problem.task].forms(problem.facts)[0]
        wrong = form.write({form.readings[0].name: form.readings[0].misreadings[0]})
        ids = [*processor.tokenizer.encode(wrong), processor.tokenizer.eos_token_id]
        drafts.append(WrongDraft(problem, Rollout(ids, wrong, False), world.correct_answers(problem)[-1]))
    dataset = rl_dataset(drafts, processor, "nano")
    factors = {"visual": BlankImageFactor(world.correctness_reward)}
    return fit_rl(model, processor, dataset, GRPOConfig(**config), factors=factors)


def moved(trainer, initial):
    """The largest change by the training: of a log-probability of the last answers, or of a weight of a repair model.

    Takes the training back.
    """
    model = trainer.model
    if not isinstance(trainer, DFGRPOTrainer):
        pairs = zip(model.parameters(), initial.parameters(), strict=True)
        return max((new - old).abs().max().item() for new, old in pairs)
    batch = trainer._buffered_inputs[-1]
    with torch.no_grad():
        after = trainer._logps(model, batch)
        if hasattr(model, "disable_adapter"):
            with model.disable_adapter():
                before = trainer._logps(model, batch)
        else:
            model.load_state_dict(initial.state_dict())
            before = trainer._logps(model, batch)
    return ((after - before) * batch["completion_mask"]).abs().max().item()


def main(which, path, output):
    utils.dispatch_cpu_unquantized_gemm = keep_weights
    vllm_generation.LLM = functools.partial(vllm_generation.LLM, dtype="float32", enforce_eager=True)
    model, processor = AutoModelForImageTextToText.from_pretrained(path), AutoProcessor.from_pretrained(path)
    never = processor.tokenizer.encode("9")
    config = SETTINGS | {"output_dir": output}
    if which == "repair":
        config["generation_kwargs"] = {"suppress_tokens": never}
    sampled = []
    generate = vllm_generation.VLLMGeneration.generate

    def watched(*args, **kwargs):
        result = generate(*args, **kwargs)
        sampled.extend(result[1])
        return result

    vllm_generation.VLLMGeneration.generate = watched
    if which == "adapter":
        model = with_lora(model, Lora(), seed=0)
        config["learning_rate"] = 1e-2
    trainer = (repair if which == "repair" else policy)(model, processor, config)
    result = {"log": trainer.state.log_history, "sampled": [list(ids) for ids in sampled]}
    stale = AutoModelForImageTextToText.from_pretrained(path)
    result["moved"] = moved(trainer, stale)
    print("\n" + json.dumps(result | {"never": never}, default=float), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
