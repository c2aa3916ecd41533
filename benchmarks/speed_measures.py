"""What the speed benchmark measures. Each measure runs with the code of two commits, so it calls only what both have.

    PYTHONPATH=src python benchmarks/speed_measures.py NAME FOLDER

prints the figures of one measure as a JSON object. Times are processor seconds unless a figure says otherwise.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = 40  # of a training run
COMMON = [
    *(f"trl.max_steps={STEPS}", "trl.save_steps=100000", "trl.learning_rate=5e-5"),
    *("evaluation.every=100000", "evaluation.problems=12"),
]


def repair_model(folder: Path) -> Path:
    """A repair model of the embedded world, trained by stage 1 once for all measures."""
    from difference_feedback.repair.sft import train_sft
    from difference_feedback.runs.folder import Run
    from difference_feedback.runs.loading import load_recipe
    from difference_feedback.runs.recipes import RepairSFTRecipe

    settings = ["drafts=200", "evaluation.problems=120", "trl.max_steps=40"]
    recipe = load_recipe("nano_repair_sft", RepairSFTRecipe, settings)
    run = Run(folder / "repair_model", recipe)
    if not run.finished:
        train_sft(recipe, run)
    return run.model_path


def _train(recipe_name: str, settings: list[str]) -> dict[str, Any]:
    """The summary of a short training run."""
    from difference_feedback.policy.train import train
    from difference_feedback.runs.folder import Run
    from difference_feedback.runs.loading import load_recipe
    from difference_feedback.runs.recipes import TrainRecipe

    recipe = load_recipe(recipe_name, TrainRecipe, [*COMMON, *settings])
    with tempfile.TemporaryDirectory() as folder:
        return train(recipe, Run(Path(folder) / "run", recipe))


def grpo(folder: Path) -> dict[str, float]:
    return {"a training step of GRPO, s": _train("nano_grpo", [])["cpu_seconds"] / STEPS}


def df_grpo(folder: Path) -> dict[str, float]:
    summary = _train("nano_df_grpo", [f"repair_model={repair_model(folder)}", "trl.num_repairs=1"])
    cost = summary["cost"]["cpu"]
    stages = {f"of it {stage}, s": seconds for stage, seconds in cost["stages"].items()}
    between = cost["measured"] - sum(cost["stages"].values())
    return {"a training step of DF-GRPO, s": cost["measured"], **stages, "of it between the stages, s": between}


MEASURES: dict[str, Callable[[Path], dict[str, float]]] = {
    "grpo": grpo,
    "df_grpo": df_grpo,
}

if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[1]](Path(sys.argv[2]))))
