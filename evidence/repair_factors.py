"""What each factor of the repair reward is worth, on the embedded world. [DF, Eq. 4]

    python evidence/repair_factors.py runs/repair_factors --seeds 0 1 2

For each seed one repair model is trained by stage 1; stage 2 then starts from it with all factors, with one of them
left out at a time, and not at all. Every run is a folder that is resumed or kept. At the end the results are written to
evidence/results/repair_factors.json, and `python evidence/build.py` makes the table in docs/repair.md from that file.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from difference_feedback.repair.rl import train_rl
from difference_feedback.repair.sft import train_sft
from difference_feedback.runs.folder import Run
from difference_feedback.runs.loading import load_recipe
from difference_feedback.runs.recipes import RepairRLRecipe, RepairSFTRecipe
from study import Kept

COMMON = [
    *("evaluation.problems=600", "drafts=640", "trl.max_steps=150", "trl.lr_scheduler_type=constant"),
    "trl.logging_steps=1",
]
VARIANTS: dict[str, list[str]] = {
    "stage 1 alone": ["sft_only=true"],
    "all factors": [],
    "without the blank-image factor": ["visual_factor.enabled=false"],
    "without the auditor": ["audit.enabled=false"],
    "without either factor": ["visual_factor.enabled=false", "audit.enabled=false"],
    "λ = 0": ["edit_cost_weight=0.0"],
}


def run_seed(folder: Path, seed: int) -> list[dict[str, Any]]:
    """Stage 1 and every variant of stage 2 for one seed; a row each."""
    sft = load_recipe("nano_repair_sft", RepairSFTRecipe, [f"seed={seed}"])
    sft_run = Run(folder / f"seed{seed}" / "sft", sft)
    if not sft_run.finished:
        train_sft(sft, sft_run)
    rows = []
    for name, changes in VARIANTS.items():
        start = [f"seed={seed}", f"model={sft_run.model_path}"]
        recipe = load_recipe("nano_repair_rl", RepairRLRecipe, [*start, *COMMON, *changes])
        run = Run(folder / f"seed{seed}" / name.replace(" ", "_"), recipe)
        if not run.finished:
            train_rl(recipe, run)
        summary = run.summary()
        after = summary["after"]
        rows.append(
            {
                "variant": name,
                "seed": seed,
                **{key: after[key] for key in ("accuracy_at_1", "accuracy_at_2", "edit_cost", "blind_share")},
                **{"audit_survival": after["audit_survival"], "audit_hits": after["audit_hits"]},
                "right_and_clean": after["accuracy_at_1"] * after["audit_survival"],
                **{"f1": after["mask"]["f1"], "drafts": after["drafts"], "cpu_seconds": summary["cpu_seconds"]},
                "factors": summary.get("factors"),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/repair_factors"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)  # so that processor seconds are comparable
    rows = [row for seed in options.seeds for row in run_seed(options.folder, seed)]
    Kept().write("repair_factors", rows)


if __name__ == "__main__":
    main()
