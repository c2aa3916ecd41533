"""What the two stages of a repair model's training share: the model, the time spent, quality before and after."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import TrainerCallback, TrainingArguments

from difference_feedback.judges.audit import Auditor
from difference_feedback.judges.llm_judge import LLMJudge
from difference_feedback.judges.questions import EMBEDDED, Grade, held_out
from difference_feedback.judges.served_model import ServedModel
from difference_feedback.method.cost import BILL
from difference_feedback.models.adapters import check_targets, name_base
from difference_feedback.models.billing import bill_device, bill_servers
from difference_feedback.models.flops import uncounted
from difference_feedback.models.load import load_model
from difference_feedback.models.ranks import ranks, say_idle_devices, sum_over_ranks
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.repair.prompts import save_template, template_for
from difference_feedback.repair.quality import RepairQuality, held_out_drafts, repair_quality
from difference_feedback.runs.checkpoints import step_of
from difference_feedback.runs.folder import Run
from difference_feedback.runs.recipes import RepairRLRecipe, RepairSFTRecipe
from difference_feedback.runs.servers import endpoints_of
from difference_feedback.trl.callbacks import MetricsToJsonl, ShowProgress, StopAtBudget, StopWhenDiverged
from difference_feedback.trl.precision import load_to_train, machine_settings
from difference_feedback.trl.trainer_config import trainer_config

C = TypeVar("C", bound=TrainingArguments)


def stage_config(
    config_class: type[C], recipe: RepairSFTRecipe | RepairRLRecipe, trl: Mapping[str, Any], **fixed: Any
) -> C:
    """The configuration of a stage's trainer: `trl` on values that suit this machine, and what the run itself fixes.

    Raises `ConfigError` for a key or a value that the configuration does not accept. Nothing is written.
    """
    check_targets(recipe.model, recipe.lora)
    values: dict[str, Any] = {"logging_steps": 10, "save_strategy": "no", "disable_tqdm": True}
    values |= {"run_name": Path(fixed["output_dir"]).absolute().parent.name} | machine_settings(recipe)
    if not torch.cuda.is_available():
        values |= {"gradient_checkpointing": False, "dataloader_pin_memory": False}
    settings = {**values, **trl, "report_to": recipe.trackers or "none"}
    return trainer_config(config_class, settings, seed=recipe.seed, **fixed)


class Stage:
    """One stage of one run. `policy` is the name of the model that writes the drafts, as a recipe gives it.

    Where there are several ranks, every one makes the stage after its trainer's configuration, which says how the
    trainer shards the model. Before the training, each rank has the whole model, since drafts are sampled then. The
    ranks share the sampling and the measuring; the first one writes.
    """

    def __init__(self, recipe: RepairSFTRecipe | RepairRLRecipe, run: Run, policy: str) -> None:
        self.recipe = recipe
        self.run = run
        settings = recipe.evaluation
        self.limits: dict[str, Any] = {"max_new_tokens": settings.max_new_tokens, "batch_size": settings.batch_size}
        self.limits["over_ranks"] = True
        say_idle_devices()
        bill_device(ranks().device)
        bill_servers(endpoints_of(recipe).values())
        self.model, self.processor = load_to_train(recipe, whole=True)
        self.model.to(ranks().device)
        self.policy: Any = self.model
        if settings.endpoint is not None:
            self.policy = ServedModel(settings.endpoint, policy)
        elif policy != recipe.model:
            loading: dict[str, Any] = {"dtype": recipe.dtype, "attention": recipe.attention, "whole": True}
            self.policy = load_model(policy, **loading)[0].to(ranks().device)
        self.template = template_for(recipe.model)
        checkpoint = run.last_checkpoint()
        self.last_checkpoint = str(checkpoint) if checkpoint else None
        self.first_step = step_of(checkpoint) if checkpoint else 0
        if ranks().is_main_process:
            run.rewind_to(checkpoint)
        self._spent: dict[str, float] = {}
        self._budget: StopAtBudget | None = None
        self._drafts: Any = None
        self._grade: Grade = EMBEDDED.is_right

    @contextmanager
    def billed(self) -> Iterator[None]:
        """The time that the ranks spend inside counts. For what happens before the training."""
        start = BILL.now()
        yield
        for clock, seconds in BILL.now().items():
            here = self._spent.get(clock, 0.0)
            self._spent[clock] = here + sum_over_ranks(seconds - start[clock])

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds counted so far, as logs name them: `cpu_seconds`, and `gpu_seconds` where GPUs are held."""
        assert self._budget is not None
        return self._budget.seconds

    def callbacks(self, cpu_seconds: float | None = None, gpu_seconds: float | None = None) -> list[TrainerCallback]:
        """Callbacks that stop at the budget (`billed` has used a part of it), write metrics.jsonl and show progress."""
        self._budget = StopAtBudget(cpu_seconds, self._spent, gpu_seconds=gpu_seconds)
        return [self._budget, StopWhenDiverged(), MetricsToJsonl(self.run.metrics_path), ShowProgress(self.recipe.kind)]

    @contextmanager
    def unbilled(self) -> Iterator[None]:
        """The time spent inside, between two training steps, does not count."""
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
        measuring: dict[str, Any] = {"grade": self._grade, "blind": True, "auditor": auditor, "over_ranks": True}
        return repair_quality(repairer, self._drafts, self.processor.tokenizer, **measuring)

    def save(self, trainer: Any = None) -> None:
        """Save the model, its processor and its prompt template to the run's `model` folder."""
        if trainer is not None:
            trainer.save_model(str(self.run.model_path))
        elif ranks().is_main_process:
            self.model.save_pretrained(self.run.model_path)
            self.processor.save_pretrained(self.run.model_path)
        if ranks().is_main_process:
            save_template(self.template, self.run.model_path, trainer.train_dataset["prompt"] if trainer else ())
            name_base(self.run.model_path, self.recipe.model)

    def finish(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Write the summary, which marks the run as finished."""
        if ranks().is_main_process:
            self.run.finish(summary)
        return summary
