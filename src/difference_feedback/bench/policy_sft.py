"""Control of the labels: the policy itself trained on the hand-repaired answers that the repair model learns from."""

from typing import Any

from datasets import Dataset
from trl import SFTConfig

from difference_feedback.repair.drafts import oracle_repairs
from difference_feedback.repair.sft import fit_sft_dataset
from difference_feedback.repair.stage import Stage
from difference_feedback.runs.folder import Run
from difference_feedback.runs.recipes import RepairSFTRecipe


def train_policy_sft(recipe: RepairSFTRecipe, run: Run) -> dict[str, Any]:
    """Train `recipe.model` to answer the questions of the hand-repaired set with the repaired answers.

    The set, and all settings of training, are those of the repair model's stage 1; the prompt alone is the policy's
    own. Billed are, as there, drafts, annotation and training.
    """
    stage = Stage(recipe, run, policy=recipe.model)
    settings = recipe.evaluation
    with stage.billed():
        rows = oracle_repairs(
            stage.model,
            stage.processor,
            recipe.drafts,
            max_new_tokens=settings.max_new_tokens,
            batch_size=settings.batch_size,
            seed=recipe.seed,
        )
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
    trainer = fit_sft_dataset(
        stage.model,
        stage.processor,
        dataset,
        stage.settings(SFTConfig, max_length=None),
        callbacks=stage.callbacks(),
        resume_from=stage.last_checkpoint,
    )
    stage.save(trainer)
    return stage.finish({"examples": len(rows), "updates": trainer.state.global_step, "cpu_seconds": stage.cpu_seconds})
