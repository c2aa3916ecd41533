"""Repair model, stage 2: reinforcement learning, rewarded for right repairs with few edits. [DF, Eq. 4]"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel, PrinterCallback, ProcessorMixin, TrainerCallback
from trl import GRPOConfig

from difference_feedback import world
from difference_feedback.judges.audit import Auditor
from difference_feedback.judges.audit_log import AuditLog, audit_statistics
from difference_feedback.judges.embedded_auditor import EmbeddedAuditor
from difference_feedback.judges.questions import draft_questions, rule_grader_of
from difference_feedback.models.ranks import ranks
from difference_feedback.models.vision_tokens import suppressed, vision_token_ids
from difference_feedback.repair.audit_factor import AuditFactor
from difference_feedback.repair.blank_image import BlankImageFactor
from difference_feedback.repair.reward import Factor, repair_reward_function
from difference_feedback.repair.rl_callbacks import MeasureRepairs, StopAtPlateau
from difference_feedback.repair.rl_data import fitting_drafts, rl_dataset, rl_drafts
from difference_feedback.repair.rl_trainer import RepairGRPOTrainer
from difference_feedback.repair.stage import Stage, stage_config
from difference_feedback.runs.check import check
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import read_rows
from difference_feedback.runs.recipes import RepairRLRecipe
from difference_feedback.runs.rewards import threshold_of
from difference_feedback.runs.serving import with_servers
from difference_feedback.trl.callbacks import check_gpu_budget
from difference_feedback.trl.config import LeanGRPOConfig
from difference_feedback.trl.objective import with_objective
from difference_feedback.trl.trainer_config import check_first_batch, refused_settings


def fit_rl(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    dataset: Dataset,
    args: GRPOConfig,
    *,
    grade: Callable[..., Sequence[float | None]] = world.correctness_reward,
    lam: float = 0.5,
    factors: Mapping[str, Factor] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    resume_from: str | None = None,
) -> RepairGRPOTrainer:
    """Train `model` in place by GRPO, or GSPO where `args` says so, and return the trainer.

    `dataset` is one of `rl_dataset`, or has its columns `prompt`, `images` and `draft_ids`, and what `grade` and
    `factors` read. A `BlankImageFactor` among the factors gets its repairs from the same batches.
    """
    if not args.use_vllm:  # `VLLMSampling` sees to vLLM
        vision = vision_token_ids(model.config, processor.tokenizer)
        kwargs = dict(args.generation_kwargs or {})  # type: ignore[arg-type]
        args.generation_kwargs = kwargs | {"suppress_tokens": suppressed(kwargs, vision)}
    with refused_settings():
        trainer = RepairGRPOTrainer(
            model,
            repair_reward_function(grade, lam=lam, factors=factors),
            args,
            train_dataset=dataset,
            processing_class=processor,
            callbacks=list(callbacks),
        )
    blind = [factor for factor in (factors or {}).values() if isinstance(factor, BlankImageFactor)]
    trainer.blank_image_factor = blind[0] if blind else None
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=resume_from)
    return trainer


def rl_config(recipe: RepairRLRecipe, output_dir: Path = Path("checkpoints")) -> GRPOConfig:
    """The trainer's configuration for a recipe. Raises `ConfigError` for a key or a value that it does not accept."""
    check_gpu_budget(recipe.budget_gpu_seconds)
    trl = with_objective(recipe.objective, recipe.trl)
    config = stage_config(LeanGRPOConfig, recipe, trl, output_dir=str(output_dir))
    if not recipe.sft_only:
        check_first_batch(recipe.drafts, config, "drafts", "drafts")
    return config


@with_servers
def train_rl(recipe: RepairRLRecipe, run: Run) -> dict[str, Any]:
    """Run stage 2 of a recipe: the trained model in the run's folder, and its summary.

    The time of drafts, training and factors counts. That of the measurements does not.
    """
    check(recipe)
    config = rl_config(recipe, run.checkpoints)
    rule = rule_grader_of(recipe)
    stage = Stage(recipe, run, policy=recipe.policy)
    auditor = auditor_of(recipe)
    # The embedded auditor costs nothing, so repairs are measured by it whether or not it takes part in the reward.
    measuring = auditor or (None if recipe.data else EmbeddedAuditor())
    before = stage.quality(auditor=measuring)
    if recipe.sft_only:
        stage.save()
        figures = before and asdict(before)
        return stage.finish({"drafts": 0, "updates": 0, "cpu_seconds": 0.0, "before": figures, "after": figures})
    with stage.billed():
        supply = rl_drafts(
            stage.policy,
            stage.processor,
            recipe.drafts,
            questions=draft_questions(recipe),
            grade=rule,
            text_only=recipe.text_only,
            needs_image=recipe.visual_factor.enabled,
            seed=recipe.seed,
            **stage.limits,
        )
    if recipe.data:
        answer = int(config.max_completion_length or 0)
        supply = fitting_drafts(supply, stage.processor, stage.template, recipe.model, answer)
    check_first_batch(len(supply.drafts), config, "drafts to train on")
    log = AuditLog(run.folder)
    if ranks().is_main_process:
        log.rewind(stage.first_step)
    callbacks = stage.callbacks(recipe.budget_cpu_seconds, recipe.budget_gpu_seconds)
    if recipe.evaluation.every:
        callbacks.append(MeasureRepairs(stage, recipe.evaluation.every, measuring))
    if recipe.stop_at_plateau:
        callbacks.append(StopAtPlateau())
    trainer = fit_rl(
        stage.model,
        stage.processor,
        rl_dataset(supply.drafts, stage.processor, stage.template),
        config,
        grade=rule.reward,
        lam=recipe.edit_cost_weight,
        factors=factors_of(recipe, rule.reward, auditor, log),
        callbacks=callbacks,
        resume_from=stage.last_checkpoint,
    )
    after = stage.quality(auditor=measuring)
    stage.save(trainer)
    ranks().wait_for_everyone()  # the first rank has written all metrics and audits
    return stage.finish(
        {
            **supply.summary(),
            "updates": trainer.state.global_step,
            **stage.seconds,
            "before": before and asdict(before),
            "after": after and asdict(after),
            "factors": factor_figures(run),
        }
    )


def auditor_of(recipe: RepairRLRecipe) -> Auditor | None:
    """The auditor that a recipe asks for; None where it switches the audit off. The recipe has passed `check`."""
    settings = recipe.audit
    if not settings.enabled:
        return None
    if settings.auditor == "embedded":
        return EmbeddedAuditor()
    from difference_feedback.judges.endpoint_auditor import EndpointAuditor

    assert settings.endpoint is not None
    return EndpointAuditor(settings.endpoint, settings.seconds)


def factors_of(
    recipe: RepairRLRecipe, reward: Callable[..., Sequence[float | None]], auditor: Auditor | None, log: AuditLog
) -> dict[str, Factor]:
    """The factors of Eq. 4 that a recipe leaves on, by name."""
    factors: dict[str, Factor] = {}
    if recipe.visual_factor.enabled:
        factors["visual"] = BlankImageFactor(reward, recipe.visual_factor.images, threshold_of(recipe))
    if auditor is not None:
        factors["audit"] = AuditFactor(auditor, recipe.audit.rate, recipe.audit.when_down, log)
    return factors


def factor_figures(run: Run) -> dict[str, Any]:
    """The factors' effect on the reward over a run, from its metrics and audits."""
    rows = [row for row in run.metrics() if "repair/reward_without_factors" in row]

    def mean(name: str) -> float | None:
        values = [row[name] for row in rows if row.get(name) is not None]
        return float(np.mean(values)) if values else None

    figures: dict[str, Any] = {
        "reward_without_factors": mean("repair/reward_without_factors"),
        "reward_with_factors": mean("reward"),
        "visual_kept": mean("repair/factor_visual"),
        "audit_kept": mean("repair/factor_audit"),
        "right_without_image": mean("repair/blind_correct"),
    }
    audits = AuditLog(run.folder).path
    if audits.is_file():
        figures["audit"] = audit_statistics([row["verdict"] for row in read_rows(audits)]).summary()
    return figures
