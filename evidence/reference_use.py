"""Does a repair model read the reference that it is shown, and are the edits of its repairs right?

    python evidence/reference_use.py nano runs/nano_repair_sft/model

The base's wrong answers with a right sibling are repaired once by each repair model: with that sibling as reference,
with a right answer that states no wrong value, with one to another question of the same task, and with none. A model
that reads its reference is right more often the better the reference is. Of the right repairs with the sibling, *clean*
ones state no wrong value, and those with *right edits* state none in an edited place, which is what the mask lets
through. Counted apart are drafts to questions that the base answers right when it answers greedily: to repair a mere
slip of sampling teaches little. For comparison, the same of the repairers that need no model. Results go to
evidence/results/reference_use.json, and `python evidence/build.py` makes the table from that file.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein

from difference_feedback.judges.embedded_auditor import changed_words, wrong_words
from difference_feedback.models.load import load_model
from difference_feedback.repair.drafts import RolloutGroup, WrongDraft, sample_groups, wrong_drafts
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.world import Problem, is_correct, sample_problems
from difference_feedback.world.blind_rewriter import rewrite_blind
from difference_feedback.world.oracle import oracle_repair, other_correct_answer
from study import Kept

Drafts = Sequence[WrongDraft[Problem]]


def figures(drafts: Drafts, repairs: Sequence[str | None], known: Sequence[bool]) -> dict[str, float]:
    """Of all drafts, the share that got a right repair; of those repairs, the clean ones and those with right edits.

    `taught_known` and `taught_unknown`: the share of drafts that got a right repair with right edits, among those to
    questions that are `known` and among the others. `cancelling`: of the words of both sides that take part in no edit,
    the share before the first edit, where a wrong answer and its repair are one text with opposite advantages.
    """
    before = unedited = 0
    right, clean, right_edits = (np.zeros(len(drafts), np.bool_) for _ in range(3))
    for i, (draft, repair) in enumerate(zip(drafts, repairs, strict=True)):
        if repair is None or not is_correct(draft.problem, repair):
            continue
        right[i] = True
        source, edited = changed_words(draft.draft.text, repair)
        unedited += int((~source).sum() + (~edited).sum())
        before += 2 * min(int(mask.argmax()) if mask.any() else len(mask) for mask in (source, edited))
        wrong = wrong_words(draft.problem, repair.strip())
        if wrong is not None:
            clean[i], right_edits[i] = not wrong.any(), not (wrong & edited).any()
    return {
        "right": float(right.mean()),
        "clean": float(clean[right].mean()),
        "right_edits": float(right_edits[right].mean()),
        "taught_known": float(right_edits[np.array(known)].mean()),
        "taught_unknown": float(right_edits[~np.array(known)].mean()),
        "cancelling": before / unedited,
    }


def references(drafts: Drafts, rng: np.random.Generator) -> dict[str, list[str | None]]:
    """Kind of reference -> one for each draft."""
    by_task: dict[str, list[WrongDraft[Problem]]] = {}
    for draft in drafts:
        by_task.setdefault(draft.problem.task, []).append(draft)

    def foreign(draft: WrongDraft[Problem]) -> str:
        others = [other for other in by_task[draft.problem.task] if other.problem is not draft.problem]
        return others[rng.integers(len(others))].reference

    return {
        "sibling": [draft.reference for draft in drafts],
        "flawless": [other_correct_answer(draft.problem, rng) for draft in drafts],
        "foreign": [foreign(draft) for draft in drafts],
        "none": [None] * len(drafts),
    }


def without_a_model(
    groups: Sequence[RolloutGroup[Problem]], drafts: Drafts, tokenizer: Any
) -> dict[str, list[str | None]]:
    """What the repairers that need no model make of the drafts."""
    siblings = {id(group.problem): [rollout.text for rollout in group.correct] for group in groups}

    def nearest(draft: WrongDraft[Problem]) -> str:
        words = draft.draft.text.split()
        return min(siblings[id(draft.problem)], key=lambda text: Levenshtein.distance(words, text.split()))

    repairers: dict[str, Callable[[WrongDraft[Problem]], str | None]] = {
        "oracle": lambda draft: oracle_repair(draft.problem, draft.draft.text, tokenizer),
        "blind rewriter": lambda draft: rewrite_blind(draft.problem, draft.draft.text, draft.reference, tokenizer),
        "the closest right sibling": nearest,
        "the reference": lambda draft: draft.reference,
    }
    return {name: [repair(draft) for draft in drafts] for name, repair in repairers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repairers", nargs="+", help="repair models: nano for the base, or folders")
    parser.add_argument("--questions", type=int, default=600)
    parser.add_argument("--labels", nargs="+", help="what each is called; by default its name")
    options = parser.parse_args()
    torch.set_num_threads(1)
    policy, processor = load_model("nano")
    groups = sample_groups(policy, processor, sample_problems("rl", options.questions, 5), group_size=8, seed=1)
    drafts = wrong_drafts(groups, seed=1)
    problems = [group.problem for group in groups]
    greedy = sample_groups(policy, processor, problems, group_size=1, temperature=0.0)
    solved = {id(group.problem) for group in greedy if group.correct}
    known = [id(draft.problem) in solved for draft in drafts]
    shown = references(drafts, np.random.default_rng(1))
    results: dict[str, Any] = {"drafts": len(drafts), "known": sum(known), "models": {}, "without": {}}
    for path, label in zip(options.repairers, options.labels or options.repairers, strict=True):
        repairer = LocalRepairer.from_pretrained(path, style="nano", max_new_tokens=64)
        results["models"][label] = {}
        for kind, texts in shown.items():
            requests = [replace(draft, reference=text).request for draft, text in zip(drafts, texts, strict=True)]
            repairs = [candidates[0].text for candidates in repairer.repair(requests)]
            results["models"][label][kind] = figures(drafts, repairs, known)
        print(label, json.dumps(results["models"][label]), flush=True)
    for name, repairs in without_a_model(groups, drafts, processor.tokenizer).items():
        results["without"][name] = figures(drafts, repairs, known)
        print(name, json.dumps(results["without"][name]), flush=True)
    Kept().write("reference_use", results)


if __name__ == "__main__":
    main()
