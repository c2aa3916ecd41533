"""What the two stages of a repair model's training share: the model, processor time, quality before and after."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from transformers import Trainer, TrainerCallback

from difference_feedback.judges.audit import Auditor
from difference_feedback.judges.llm_judge import LLMJudge
from difference_feedback.judges.questions import EMBEDDED, Grade, held_out
from difference_feedback.models.adapters import name_base, with_lora
from difference_feedback.models.flops import uncounted
from difference_feedback.models.load import load_model
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.repair.prompts import save_template, template_for
from difference_feedback.repair.quality import RepairQuality, held_out_drafts, repair_quality
from difference_feedback.runs.folder import Run
from difference_feedback.runs.recipes import RepairRLRecipe, RepairSFTRecipe
from difference_feedback.runs.validation import build_config
from difference_feedback.trl.callbacks import MetricsToJsonl, ShowProgress, StopAtBudget

C = TypeVar("C")


def stage_config(
    config_class: type[C], recipe: RepairSFTRecipe | RepairRLRecipe, trl: Mapping[str, Any], **fixed: Any
) -> C:
    """The configuration of a stage's trainer: `trl` on values that suit this machine, and what the run itself fixes.

    Raises `ConfigError` for a key or a value that the configuration does not accept. Nothing is written.
    """
    values: dict[str, Any] = {"logging_steps": 10, "save_strategy": "no", "disable_tqdm": True}
    values |= {"run_name": Path(fixed["output_dir"]).absolute().parent.name}
    if not torch.cuda.is_available():
        values |= {"bf16": False, "use_cpu": True, "gradient_checkpointing": False}
        values |= {"dataloader_pin_memory": False}
    return build_config(
        config_class, {**values, **trl, "report_to": recipe.trackers or "none"}, source="trl", seed=recipe.seed, **fixed
    )


class Stage:
    """One stage of one run. `policy` is the name of the model that writes the drafts, as a recipe gives it."""

    def __init__(self, recipe: RepairSFTRecipe | RepairRLRecipe, run: Run, policy: str) -> None:
        self.recipe = recipe
        self.run = run
        settings = recipe.evaluation
        self.limits: dict[str, Any] = {"max_new_tokens": settings.max_new_tokens, "batch_size": settings.batch_size}
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model, self.processor = load_model(recipe.model, dtype=recipe.dtype, attention=recipe.attention)
        self.model = with_lora(self.model, recipe.lora, recipe.seed).to(device)
        self.policy = self.model
        if policy != recipe.model:
            self.policy = load_model(policy, dtype=recipe.dtype, attention=recipe.attention)[0].to(device)
        self.template = template_for(recipe.model)
        checkpoint = run.last_checkpoint()
        self.last_checkpoint = str(checkpoint) if checkpoint else None
        self.first_step = int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else 0
        run.rewind(self.first_step if checkpoint else -1)
        self._spent = 0.0
        self._budget: StopAtBudget | None = None
        self._drafts: Any = None
        self._grade: Grade = EMBEDDED.is_right

    @contextmanager
    def billed(self) -> Iterator[None]:
        """The processor time spent inside counts. For what happens before the training."""
        start = time.process_time()
        try:
            yield
        finally:
            self._spent += time.process_time() - start

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds counted so far."""
        return self._budget.total if self._budget else self._spent

    def callbacks(self, budget: float | None = None) -> list[TrainerCallback]:
        """Callbacks that stop at the budget (`billed` has used a part of it), write metrics.jsonl and show progress."""
        self._budget = StopAtBudget(budget, already_spent=self._spent)
        return [self._budget, MetricsToJsonl(self.run.metrics_path), ShowProgress(self.recipe.kind)]

    @contextmanager
    def unbilled(self) -> Iterator[None]:
        """The processor time spent inside, between two training steps, does not count."""
        with self._budget.paused() if self._budget else nullcontext():
            yield

    @uncounted()
    def quality(self, auditor: Auditor | None = None) -> RepairQuality | None:
        """Measure the model on held-out drafts of the policy, with every factor of Eq. 4. The time does not count.

        None if there are no held-out questions: a recipe with `data` and no `test_data`.
        """
        seed = self.recipe.evaluation.seed
        if self._drafts is None:  # before training, so that a policy which is also the model is still the policy
            questions, grader = held_out(self.recipe)
            assert not isinstance(grader, LLMJudge)  # these recipes name no judge
            self._grade = grader.is_right
            if not questions:
                return None
            self._drafts = held_out_drafts(
                self.policy, self.processor, questions, grade=grader, seed=seed, **self.limits
            )
        repairer = LocalRepairer(self.model, self.processor, style=self.template, seed=seed, **self.limits)
        return repair_quality(
            repairer, self._drafts, self.processor.tokenizer, grade=self._grade, blind=True, auditor=auditor
        )

    def save(self, trainer: Trainer | None = None) -> None:
        """Save the model, its processor and its prompt template to the run's `model` folder."""
        if trainer is not None:
            trainer.save_model(str(self.run.model_path))
        else:
            self.model.save_pretrained(self.run.model_path)
            self.processor.save_pretrained(self.run.model_path)
        if PartialState().is_main_process:
            save_template(self.template, self.run.model_path)
            name_base(self.run.model_path, self.recipe.model)

    def finish(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Write the summary, which marks the run as finished."""
        if PartialState().is_main_process:
            self.run.finish(summary)
        return summary
