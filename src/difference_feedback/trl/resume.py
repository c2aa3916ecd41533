"""Resume so that the run goes on as if it had never stopped. For any of TRL's GRPO trainers.

TRL 1.16 on transformers 5 loses three things on `resume_from_checkpoint`, which are restored here:

- Weights of models whose saved names differ from those in memory (Qwen2.5-VL): `load_state_dict(strict=False)` warns
  and keeps the initial weights. `from_pretrained` knows the names and loads them.
- `_step`, which says when to generate and which slice of the generated batch comes next: it restarts at 0.
- The sampler's order from the second epoch on: its generator has not drawn the permutations of the finished epochs.

A run that resumes where a new batch is generated then equals an uninterrupted one bit for bit. Between two generations
it does not, since the generated batch is not saved: a warning says so.
"""

import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils import is_peft_model
from torch import nn
from torch.utils.data import Sampler
from transformers import Trainer
from transformers.utils import CONFIG_NAME
from trl import GRPOConfig

from difference_feedback.trl.image_rows import ImageRows
from difference_feedback.trl.rollouts import unjudged
from difference_feedback.trl.vllm_sampling import VLLMSampling


class WholeCheckpoints(Trainer):
    """A trainer whose checkpoints hold all that a resumed run needs, and give it back. A base beside TRL's trainers."""

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # The first rank writes the state file next, by which `Run.last_checkpoint` knows a complete checkpoint.
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        target = self.accelerator.unwrap_model(self.model if model is None else model)
        if not load_weights(self, target, resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)


class ExactResume(WholeCheckpoints, VLLMSampling, ImageRows):
    """`GRPOTrainer` whose `resume_from_checkpoint` continues the run that was interrupted."""

    args: GRPOConfig
    model: Any
    num_generations: int
    _train_sampler: Any = None
    watch: Callable[[list[dict[str, Any]], list[Any], torch.Tensor], None] | None = None
    """Called with every batch of graded answers: rows of the data set, completions, and their rewards `(n, F)`."""

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[Any], completions: list[Any], completion_ids_list: list[Any]
    ) -> torch.Tensor:
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        # TRL takes a row for judged that has one number; what is unjudged has none here.
        missing = unjudged(rewards, self.reward_weights)
        rewards[missing] = torch.nan
        self._metrics["train" if self.model.training else "eval"]["unjudged"].append(float(missing.sum()))
        if self.watch is not None and self.model.training:
            first = self.accelerator.process_index * len(prompts)
            self.watch(inputs, completions, rewards[first : first + len(prompts)])
        return rewards

    @property
    def _steps_per_generation(self) -> int:
        """Micro-batches of one batch of rollouts; never None once the configuration is resolved."""
        return self.args.steps_per_generation or self.args.gradient_accumulation_steps

    @property
    def _generate_every(self) -> int:
        """Micro-batches between two generations."""
        return self._steps_per_generation * self.num_iterations

    def _get_train_sampler(self, dataset: Any = None) -> Sampler:
        self._train_sampler = super()._get_train_sampler(dataset)
        return self._train_sampler

    def _load_best_model(self) -> None:
        target, best = self.accelerator.unwrap_model(self.model), self.state.best_model_checkpoint
        if best is None or not load_weights(self, target, best):
            super()._load_best_model()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        self._step = self.state.global_step * self.args.gradient_accumulation_steps
        if self._step % self._generate_every:
            warnings.warn(
                f"Resuming at step {self.state.global_step}, between two generations: new answers are sampled for the "
                "rest of this one, so the run will differ from an uninterrupted one. Choose save_steps so that "
                "checkpoints fall on a generation.",
                stacklevel=2,
            )
        generator = getattr(self._train_sampler, "generator", None)
        if generator is not None:
            for _ in range(int(self.state.epoch or 0)):
                torch.randperm(self._train_sampler.num_samples, generator=generator)


def load_weights(trainer: Any, model: nn.Module, checkpoint: str) -> bool:
    """Put a checkpoint's weights into a trainer's `model`, in place, in its own data type. Every name must match.

    Returns whether it did. Adapters, and what FSDP and DeepSpeed save besides, go by the names in memory: transformers
    itself loads them right.
    """
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    if sharded or is_peft_model(model) or not os.path.isfile(os.path.join(checkpoint, CONFIG_NAME)):
        return False
    saved = type(model).from_pretrained(checkpoint, dtype="auto", trust_remote_code=False)  # type: ignore[attr-defined]
    model.load_state_dict(saved.state_dict(), strict=True)
    return True
