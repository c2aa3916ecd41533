"""Repair model, stage 2: reinforcement learning by GRPO, rewarded for right repairs with few edits. [DF, Eq. 4]"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel, PrinterCallback, ProcessorMixin, TrainerCallback, TrainerControl, TrainerState
from transformers import TrainingArguments as Arguments
from trl import GRPOConfig, GRPOTrainer

from difference_feedback import tasks
from difference_feedback.errors import DataError
from difference_feedback.repair.drafts import WrongDraft, sample_groups, wrong_drafts
from difference_feedback.repair.prompts import RepairTemplate, repair_conversation, special_tokens
from difference_feedback.repair.reward import Gate, repair_reward_function
from difference_feedback.repair.training import Stage
from difference_feedback.tasks import Problem
from difference_feedback.tasks.mixture import stream_problems
from difference_feedback.trl.resume import ExactResume
from difference_feedback.trl.vision_tokens import suppressed, vision_token_ids

if TYPE_CHECKING:
    from difference_feedback.recipes import RepairRLRecipe
    from difference_feedback.runs import Run


class StopAtPlateau(TrainerCallback):
    """Stops once the mean of a logged metric over `window` logs has not risen by `min_gain` for `window` logs more."""

    def __init__(self, metric: str = "repair/correct", window: int = 5, min_gain: float = 0.01) -> None:
        self.metric = metric
        self.window = window
        self.min_gain = min_gain
        self.values: list[float] = []

    def on_log(
        self,
        args: Arguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or self.metric not in logs:
            return
        self.values.append(float(logs[self.metric]))
        n = self.window
        if len(self.values) >= 2 * n and np.mean(self.values[-n:]) < np.mean(self.values[-2 * n : -n]) + self.min_gain:
            control.should_training_stop = True


def rl_drafts(
    policy: PreTrainedModel,
    processor: ProcessorMixin,
    n: int,
    *,
    group_size: int = 4,
    max_new_tokens: int = 64,
    batch_size: int = 64,
    seed: int = 0,
    progress: str | None = "drafts to learn repairing on",
) -> list[WrongDraft[Problem]]:
    """`n` wrong answers of `policy` to RL problems, each with a correct sibling for its reference.

    Raises `DataError` when 20 `n` answers hold fewer.
    """
    problems = stream_problems("rl", seed)
    found: list[WrongDraft[Problem]] = []
    rollouts = 0
    while len(found) < n:
        if rollouts >= 20 * n:
            raise DataError(
                f"{rollouts} answers hold {len(found)} wrong ones with a correct sibling, {n} were asked for: the "
                "policy is nearly always right, or nearly always wrong; ask for fewer drafts"
            )
        groups = sample_groups(
            policy,
            processor,
            [next(problems) for _ in range(max(1, batch_size // group_size))],
            group_size=group_size,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            seed=seed + rollouts,
            progress=progress,
        )
        rollouts += sum(len(group.rollouts) for group in groups)
        found += wrong_drafts(groups, seed=seed + rollouts)
    return found[:n]


def rl_dataset(
    drafts: Sequence[WrongDraft[Problem]], processor: ProcessorMixin, style: str | RepairTemplate
) -> Dataset:
    """Rows for TRL: repair prompt, images, the draft's tokens, and the columns that the problem's grader reads."""
    special = special_tokens(processor)
    dataset = tasks.to_dataset([wrong.problem for wrong in drafts])
    prompts = [
        repair_conversation(wrong.problem.prompt, wrong.draft.text, wrong.reference, style, special) for wrong in drafts
    ]
    dataset = dataset.remove_columns("prompt").add_column("prompt", prompts)
    return dataset.add_column("draft_ids", [wrong.draft.token_ids for wrong in drafts])


def fit_rl(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    args: GRPOConfig,
    *,
    grade: Callable[..., Sequence[float | None]] = tasks.correctness_reward,
    lam: float = 0.5,
    gates: Mapping[str, Gate] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    resume_from: str | None = None,
) -> GRPOTrainer:
    """Train `model` in place by GRPO, and return the trainer.

    `dataset` is one of `rl_dataset`, or has its columns `prompt`, `images` and `draft_ids`, and what `grade` reads.
    """
    vision = vision_token_ids(model.config, processor.tokenizer)
    kwargs = dict(args.generation_kwargs or {})  # type: ignore[arg-type]
    args.generation_kwargs = kwargs | {"suppress_tokens": suppressed(kwargs, vision)}
    trainer = ExactResume(
        model,
        repair_reward_function(grade, lam=lam, gates=gates),
        args,
        train_dataset=dataset,
        processing_class=processor,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=resume_from)
    return trainer


def train_rl(recipe: "RepairRLRecipe", run: "Run") -> dict[str, Any]:
    """Run stage 2 of a recipe: the trained model in the run's folder, and its summary.

    Billed are the drafts and the training, not the measuring before and after.
    """
    stage = Stage(recipe, run, policy=recipe.policy)
    before = stage.quality()
    settings = recipe.evaluation
    with stage.billed():
        drafts = rl_drafts(
            stage.policy,
            stage.processor,
            recipe.drafts,
            max_new_tokens=settings.max_new_tokens,
            batch_size=settings.batch_size,
            seed=recipe.seed,
        )
    callbacks = stage.callbacks(recipe.budget_cpu_seconds)
    if recipe.stop_at_plateau:
        callbacks.append(StopAtPlateau())
    trainer = fit_rl(
        stage.model,
        stage.processor,
        rl_dataset(drafts, stage.processor, stage.template),
        stage.settings(GRPOConfig),
        lam=recipe.edit_cost_weight,
        callbacks=callbacks,
        resume_from=stage.last_checkpoint,
    )
    summary = {
        "drafts": len(drafts),
        "updates": trainer.state.global_step,
        "cpu_seconds": stage.cpu_seconds,
        "before": before.summary(),
        "after": stage.quality().summary(),
    }
    return stage.finish(trainer, summary)
