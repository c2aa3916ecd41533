"""How well do a repair model's probabilities of a wrong answer's tokens find the errors, beside masks of repairs?

    for seed in 0 1 2; do
      difference-feedback repair sft nano_repair_sft seed=$seed --output runs/sft_$seed
      difference-feedback repair rl nano_repair_rl seed=$seed model=runs/sft_$seed/model --output runs/rl_$seed
    done
    python evidence/log_ratio.py runs/sft_0 runs/sft_1 runs/sft_2 --label "stage 1"
    python evidence/log_ratio.py runs/rl_0 runs/rl_1 runs/rl_2 --label "stage 2"

Each folder is a seed with drafts of its own: wrong answers of the base with a right sibling, in which the world knows
the tokens that state a wrong value. Their tokens get weights in these ways: `log_ratio` and `doubt` of the model in the
folder; the mask of its right repair with the fewest edits, of two; the mask of one repair, right or wrong; that of the
closest right sibling; that of the oracle's repair; as many tokens as the second mask, drawn at random. A draft without
a right repair has an empty mask. For weights `w` and errors `e`, precision is `sum(w e) / sum(w)` and recall
`sum(w e) / sum(e)` over all tokens; average precision takes no threshold. *Roots* are the errors that follow from no
earlier one. Seconds are of the processor, for one draft: scores are one forward pass of the repair model and one of
the policy (`log_ratio` alone); repairs are sampled. The results are added to evidence/results/log_ratio.json, and
`python evidence/build.py` makes the table from that file.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from difference_feedback.method.alignment import BoolArray, align
from difference_feedback.method.draft_scores import draft_weights
from difference_feedback.method.masks import FloatArray
from difference_feedback.method.selection import choose_repair
from difference_feedback.models.end_tokens import end_of
from difference_feedback.models.load import load_model
from difference_feedback.models.scoring import answer_logps
from difference_feedback.repair.drafts import WrongDraft, sample_groups, wrong_drafts
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.runs.model_folder import model_of
from difference_feedback.world import Problem, is_correct, sample_problems
from difference_feedback.world.oracle import error_tokens, oracle_repair
from study import Kept

Drafts = Sequence[WrongDraft[Problem]]


def average_precision(weights: FloatArray, errors: BoolArray) -> float:
    """The mean over errors of the precision among the tokens whose weight is at least theirs. Ties count as one."""
    order = np.argsort(-weights, kind="stable")
    hits, ranked = np.cumsum(errors[order]), weights[order]
    last = np.append(ranked[1:] != ranked[:-1], True)  # of equal weights
    at = np.flatnonzero(last)
    return float(np.sum(hits[at] / (at + 1) * np.diff(hits[at], prepend=0)) / errors.sum())


def figures(weights: Sequence[FloatArray], errors: FloatArray, roots: FloatArray, seconds: float) -> dict[str, float]:
    """What the page shows of one way to weigh the tokens of all drafts."""
    every = np.concatenate(weights).astype(np.float64)
    total = every.sum()
    return {
        "precision": float((every * errors).sum() / total) if total else 0.0,
        "recall": float((every * errors).sum() / errors.sum()),
        "average_precision": average_precision(every, errors > 0),
        "root_recall": float((every * roots).sum() / roots.sum()),
        "root_average_precision": average_precision(every, roots > 0),
        "density": float(every.mean()),
        "seconds": seconds,
    }


def measure(folder: str, questions: int, seed: int) -> dict[str, Any]:
    """Weigh the tokens of one seed's drafts in every way."""
    policy, processor = load_model("nano")
    tokenizer = processor.tokenizer
    groups = sample_groups(policy, processor, sample_problems("rl", questions, 5 + seed), group_size=8, seed=seed)
    siblings = {id(group.problem): [rollout.token_ids for rollout in group.correct] for group in groups}
    drafts, errors, roots = [], [], []
    for draft in wrong_drafts(groups, seed=seed):
        truth = error_tokens(draft.problem, draft.draft.token_ids, tokenizer)
        if truth is not None and truth.any():
            drafts.append(draft)
            errors.append(truth)
            roots.append(error_tokens(draft.problem, draft.draft.token_ids, tokenizer, roots_only=True))
    ids = [draft.draft.token_ids for draft in drafts]
    requests = [draft.request for draft in drafts]
    repairer = LocalRepairer.from_pretrained(model_of(folder), max_new_tokens=64, seed=seed)

    def timed(work: Callable[[], Any]) -> tuple[Any, float]:
        start = time.process_time()
        return work(), (time.process_time() - start) / len(drafts)

    prompts, images = [draft.problem.prompt for draft in drafts], [draft.problem.images for draft in drafts]
    repair_logps, scored = timed(lambda: repairer.score(requests))
    policy_logps, known = timed(lambda: answer_logps(policy, processor, prompts, images, ids))
    candidates, sampled = timed(lambda: repairer.repair(requests, 2))
    pairs = list(zip(repair_logps, policy_logps, strict=True))
    chosen, single, nearest, perfect = [], [], [], []
    for draft, repairs in zip(drafts, candidates, strict=True):
        wrong = draft.draft.token_ids
        right = [float(is_correct(draft.problem, repair.text)) for repair in repairs]
        choice = choose_repair(wrong, [repair.token_ids for repair in repairs], right)
        chosen.append(np.zeros(len(wrong), bool) if choice is None else choice.alignment.source_mask)
        single.append(align(wrong, repairs[0].token_ids).source_mask)
        sibling = choose_repair(wrong, siblings[id(draft.problem)], [1.0] * len(siblings[id(draft.problem)]))
        assert sibling is not None
        nearest.append(sibling.alignment.source_mask)
        text = oracle_repair(draft.problem, draft.draft.text, tokenizer)
        target = tokenizer.encode(text, add_special_tokens=False) + end_of(wrong, tokenizer)
        perfect.append(align(wrong, target).source_mask)
    rng = np.random.default_rng(seed)
    ways = {
        "doubt": ([draft_weights(repair) for repair, _ in pairs], scored),
        "log_ratio": ([draft_weights(repair, of_policy) for repair, of_policy in pairs], scored + known),
        "policy": ([draft_weights(of_policy) for _, of_policy in pairs], known),
        "repair_of_two": (chosen, sampled),
        "one_repair": (single, sampled / 2),
        "sibling": (nearest, 0.0),
        "oracle": (perfect, 0.0),
        "random": ([rng.permutation(mask) for mask in single], 0.0),
    }
    truths = np.concatenate(errors).astype(float), np.concatenate(roots).astype(float)
    return {
        "drafts": len(drafts),
        "tokens": len(truths[0]),
        "errors": float(truths[0].mean()),
        "repaired": float(np.mean([mask.any() for mask in chosen])),
        "ways": {name: figures(weights, *truths, seconds) for name, (weights, seconds) in ways.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help="repair models, one for each seed: folders, or nano for the base")
    parser.add_argument("--label", required=True, help="what they are called")
    parser.add_argument("--questions", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = []
    for seed, folder in enumerate(options.folders):
        runs.append(measure(folder, options.questions, seed))
        print(options.label, seed, json.dumps(runs[-1]), flush=True)
    Kept().add("log_ratio", options.label, runs)


if __name__ == "__main__":
    main()
