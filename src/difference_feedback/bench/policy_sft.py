"""The ablation of the labels: the policy itself learns the oracle's repairs that the repair model learns from."""

from typing import Any

from datasets import Dataset

from difference_feedback.repair.drafts import oracle_repairs
from difference_feedback.repair.sft import fit_sft, sft_config
from difference_feedback.repair.stage import Stage
from difference_feedback.runs.folder import Run
from difference_feedback.runs.recipes import RepairSFTRecipe


def train_policy_sft(recipe: RepairSFTRecipe, run: Run) -> dict[str, Any]:
    """Train `recipe.model` to answer questions with the oracle's repairs of its own wrong answers.

    The repairs and all settings of training are those of the repair model's stage 1. Only the prompt differs: it is the
    policy's. As in stage 1, drafts, repairs and training count.
    """
    stage = Stage(recipe, run, policy=recipe.model)
    with stage.billed():
        rows = oracle_repairs(stage.model, stage.processor, recipe.drafts, seed=recipe.seed, **stage.limits)
    dataset = Dataset.from_list(
        [
            {
                "prompt": row.prompt,
                "completion": [{"role": "assistant", "content": row.repaired}],
                "images": list(row.images),
            }
            for row in rows
        ]
    )
    trainer = fit_sft(
        stage.model,
        stage.processor,
        dataset,
        sft_config(recipe, run.checkpoints),
        callbacks=stage.callbacks(),
        resume_from=stage.last_checkpoint,
    )
    stage.save(trainer)
    return stage.finish({"examples": len(rows), "updates": trainer.state.global_step, **stage.seconds})
