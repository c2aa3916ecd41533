"""Resume so that the run goes on as if it had never stopped. For any of TRL's GRPO trainers.

TRL 1.16 on transformers 5 loses three things on `resume_from_checkpoint`, which are restored here:

- Weights of models whose saved names differ from those in memory (Qwen2.5-VL): `load_state_dict(strict=False)` warns
  and keeps the initial weights. `from_pretrained` knows the names and loads them.
- `_step`, which says when to generate and which slice of the generated batch comes next: it restarts at 0.
- The sampler's order from the second epoch on: its generator has not drawn the permutations of the finished epochs.

Two more are lost by any trainer: what was summed up for the next row of the log, and that a run was done, so that one
which is resumed at its last step makes another (`GoOn`).

A run that resumes where a new batch is generated then equals an uninterrupted one bit for bit. Between two generations
it does not, since the generated batch is not saved: a warning says so.
"""

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model
from torch import nn
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import SaveStrategy, rotate_checkpoints
from transformers.utils import CONFIG_NAME
from trl import GRPOConfig

from difference_feedback.runs.checkpoints import seal
from difference_feedback.runs.lock import check_held
from difference_feedback.runs.outputs import write_atomically
from difference_feedback.trl.image_rows import ImageRows
from difference_feedback.trl.lean_update import LeanUpdate
from difference_feedback.trl.rollouts import half_judged, unjudged
from difference_feedback.trl.vllm_sampling import VLLMSampling

SUMS = "open_row.json"
"""In a checkpoint: what was summed up since the last row of the log, and for the mean loss of the whole run."""


class WholeCheckpoints(Trainer):
    """A trainer whose checkpoints hold all that a resumed run needs, and give it back. A base beside TRL's trainers.

    A checkpoint is sealed once all ranks have written it (`runs.checkpoints`). Only then are older ones removed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._saved_at = -1
        self._go_on = GoOn(self)
        self.add_callback(self._go_on)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "train_loss" in logs:  # transformers divides by the steps since resuming
            logs["train_loss"] = self._total_loss_scalar / max(self.state.global_step, 1)
        super().log(logs, start_time)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self._go_on.load(checkpoint)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        if not self.control.should_training_stop:
            super()._run_epoch(*args, **kwargs)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        step = self.state.global_step
        if step == self._saved_at:  # at its last step, and again at the end of the epoch
            return
        check_held()
        place = Path(self._get_output_dir(trial=trial))
        folder = place / f"checkpoint-{step}"
        if self.args.should_save:
            shutil.rmtree(folder, ignore_errors=True)  # one that was cut off, or is another run's
            saved: Any = self.state.stateful_callbacks
            for callback in self.callback_handler.callbacks:  # a checkpoint of the release before has fewer
                if isinstance(callback, ExportableState):
                    saved.setdefault(type(callback).__name__, {})
        loss = self.accelerator.reduce(self._tr_loss.detach().clone(), "mean")  # waits for all ranks
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            if self.args.should_save:
                self._go_on.save(folder, float(loss))
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                seal(folder)
        except BaseException:
            if self.args.should_save:  # on a full disk, it would leave no room for the next try
                shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self.args.save_total_limit = limit
        self._saved_at = step
        if self.args.should_save:
            best = self.state.best_model_checkpoint
            rotate_checkpoints(str(place), limit, best_model_checkpoint=best, use_mtime=True)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # A tokenizer's file would hold how the last batch was padded, which a run that was just resumed does not know.
        tokenizer: Any = getattr(self.processing_class, "tokenizer", self.processing_class)
        if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
            backend.no_padding()
            backend.no_truncation()
        super()._save(output_dir, state_dict)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # The first rank writes the state file next, which counts as the last one where the seal is missing.
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        target = self.accelerator.unwrap_model(self.model if model is None else model)
        if not load_weights(self, target, resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)


class GoOn(TrainerCallback):
    """Ends a resumed run that was done, and gives the next row of the log what was summed up before.

    The step after which a callback stops the training gets a checkpoint as well, unless there are to be none.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.sums: dict[str, Any] = {}

    def save(self, checkpoint: Path, loss: float) -> None:
        """Write the sums to a checkpoint's folder; `loss` is that since the last row, the mean over ranks."""
        names = ("_total_loss_scalar", "_globalstep_last_logged", "_total_train_tokens", "_step")
        sums = {name: getattr(self.trainer, name) for name in names if hasattr(self.trainer, name)}
        metrics = getattr(self.trainer, "_metrics", {}).get("train", {})
        sums["_metrics"] = {name: [float(value) for value in values] for name, values in metrics.items()}
        write_atomically(checkpoint / SUMS, json.dumps(sums | {"_tr_loss": loss}))

    def load(self, checkpoint: str) -> None:
        """Read the sums, which checkpoints of the release before do not have."""
        path = Path(checkpoint) / SUMS
        self.sums = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not state.global_step:
            return
        if state.global_step >= state.max_steps:
            control.should_training_stop = True
        self.trainer.model.train()  # as after a step: TRL logs what belongs to the mode
        sums, self.sums = self.sums, {}
        for name, values in sums.pop("_metrics", {}).items():
            self.trainer._metrics["train"][name] = values
        if "_tr_loss" in sums:
            self.trainer._tr_loss.fill_(sums.pop("_tr_loss"))
        for name, value in sums.items():
            setattr(self.trainer, name, value)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if control.should_training_stop and args.save_strategy != SaveStrategy.NO:
            control.should_save = True

    on_log = on_step_end


class ExactResume(WholeCheckpoints, VLLMSampling, ImageRows, LeanUpdate):
    """`GRPOTrainer` whose `resume_from_checkpoint` continues the run that was interrupted."""

    args: GRPOConfig
    model: Any
    num_generations: int
    _train_sampler: Any = None
    _warned_half_judged = False
    watch: Callable[[list[dict[str, Any]], list[Any], torch.Tensor], None] | None = None
    """Called with every batch of graded answers: rows of the data set, completions, and their rewards `(n, F)`."""

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[Any], completions: list[Any], completion_ids_list: list[Any]
    ) -> torch.Tensor:
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        # TRL takes a row for judged that has one number; what is unjudged has none here.
        missing = unjudged(rewards, self.reward_weights)
        if not self._warned_half_judged and self.accelerator.is_main_process:
            warning = half_judged(rewards, self.reward_weights, self.reward_func_names)
            if warning is not None:
                warnings.warn(warning, stacklevel=2)
                self._warned_half_judged = True
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

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        resumes = kwargs["resume_from_checkpoint"] is not None and kwargs["epoch"] == kwargs["epochs_trained"]
        if resumes and self._step % self._generate_every and not self.control.should_training_stop:
            warnings.warn(
                f"Resuming at step {self.state.global_step}, between two generations: new answers are sampled for the "
                "rest of this one, so the run will differ from an uninterrupted one. Choose save_steps so that "
                "checkpoints fall on a generation.",
                stacklevel=2,
            )
        super()._run_epoch(*args, **kwargs)

    def _load_best_model(self) -> None:
        target, best = self.accelerator.unwrap_model(self.model), self.state.best_model_checkpoint
        if best is None or not load_weights(self, target, best):
            super()._load_best_model()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        # The product, of checkpoints of the release before, is wrong after an epoch that ended on a part of a step.
        product = self.state.global_step * self.args.gradient_accumulation_steps
        self._step = self._go_on.sums.get("_step", product)
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
