"""Are the repairs that the policy itself finds improbable those that are right by their end alone?

    python evidence/plausible_repairs.py nano runs/nano_repair_sft/model

The base's wrong answers with a right sibling are repaired once by each repair model. Of the right repairs, the clean
ones state no wrong value (the embedded world knows). What is known without that truth is the smallest probability that
the policy gives one of a repair's tokens. Reported are the share of clean repairs among those above a threshold, and
how many of the clean ones that keeps. Results go to evidence/results/plausible_repairs.json, and
`python evidence/build.py` makes the table from that file.
"""

import argparse
import json
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from difference_feedback.models.load import load_model
from difference_feedback.models.scoring import answer_logps
from difference_feedback.repair.drafts import sample_groups, wrong_drafts
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.world import error_spans, is_correct, sample_problems
from study import Kept

THRESHOLDS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)


def separation(scores: np.ndarray, clean: np.ndarray) -> float:
    """The probability that a clean repair scores above one that is not: the area under the ROC curve."""
    positives, negatives = int(clean.sum()), int((~clean).sum())
    return float((rankdata(scores)[clean].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repairers", nargs="+", help="repair models: nano for the base, or folders")
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--labels", nargs="+", help="what each is called; by default its name")
    options = parser.parse_args()
    torch.set_num_threads(1)
    policy, processor = load_model("nano")
    policy.eval()
    groups = sample_groups(policy, processor, sample_problems("rl", options.questions, 5), group_size=8, seed=1)
    drafts = wrong_drafts(groups, seed=1)
    results: dict[str, Any] = {}
    for path, label in zip(options.repairers, options.labels or options.repairers, strict=True):
        repairer = LocalRepairer.from_pretrained(path, style="nano", max_new_tokens=64)
        repairs = [candidates[0] for candidates in repairer.repair([draft.request for draft in drafts])]
        right = [
            (draft, repair)
            for draft, repair in zip(drafts, repairs, strict=True)
            if is_correct(draft.problem, repair.text)
        ]
        clean = np.array([error_spans(draft.problem, repair.text) == [] for draft, repair in right])
        questions = [draft.problem for draft, _ in right]
        prompts, images = [question.prompt for question in questions], [question.images for question in questions]
        logps = answer_logps(policy, processor, prompts, images, [repair.token_ids for _, repair in right])
        lowest = np.array([np.exp(each.min()) for each in logps])
        rows = [
            {
                "threshold": threshold,
                "kept": float((lowest >= threshold).mean()),
                "clean": float(clean[lowest >= threshold].mean()),
                "clean_kept": float((lowest[clean] >= threshold).mean()),
            }
            for threshold in THRESHOLDS
        ]
        results[label] = {
            "drafts": len(drafts),
            "right": len(right),
            "separation": separation(lowest, clean),
            "thresholds": rows,
        }
        print(label, json.dumps(results[label]), flush=True)
    Kept().write("plausible_repairs", results)


if __name__ == "__main__":
    main()
