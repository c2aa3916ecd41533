"""What does a drafted repair save a person on the annotation page?

    for seed in 0 1 2; do
      difference-feedback repair sft nano_repair_sft seed=$seed drafts=300 --output runs/drafts300_$seed
    done
    python evidence/drafted_repairs.py "300 repairs" runs/drafts300_0 runs/drafts300_1 runs/drafts300_2

For every drafter, one after the other and each with its own seed, wrong answers of the base with a right sibling become
items of the annotation page, and the page's own code drafts their repairs: by the model in the folder, with `sibling`
by the closest right sibling, and with `sibling+FOLDER` by the better of the two. The person is the oracle: what it
wants is the right answer closest to the wrong one, and its work is the number of words to change, insert or delete
until that stands there. *Ready* repairs are that answer already. *Deceptive* ones end right but state a wrong value on
the way: the page's grader sees only the end. The results are added to evidence/results/drafted_repairs.json, and
`python evidence/build.py` makes the table.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein

from difference_feedback.annotate.drafters import Drafters, draft_source
from difference_feedback.judges.audit import AuditCase
from difference_feedback.judges.embedded_auditor import EmbeddedAuditor
from difference_feedback.models.load import load_model
from difference_feedback.repair.drafts import sample_groups, wrong_drafts
from difference_feedback.runs.jsonl import write_jsonl
from difference_feedback.world import is_correct, sample_problems
from difference_feedback.world.oracle import oracle_repair
from study import Kept

BATCH = 32


def measure(where: str, questions: int, seed: int, folder: Path) -> dict[str, float]:
    """Draft repairs as the page does, in `folder`, and count the oracle's work from both starts."""
    policy, processor = load_model("nano")
    groups = sample_groups(policy, processor, sample_problems("rl", questions, 5 + seed), group_size=8, seed=seed)
    wrong = wrong_drafts(groups, seed=seed, one_per_problem=True)
    siblings = {id(group.problem): group.correct for group in groups}
    items: list[dict[str, Any]] = []
    responses: list[dict[str, str]] = []
    for i, draft in enumerate(wrong):
        names = [f"{i}-{k}.png" for k in range(len(draft.problem.images))]
        for name, image in zip(names, draft.problem.images, strict=True):
            image.save(folder / name)
        texts = {"draft": draft.draft.text.strip(), "reference": draft.reference.strip(), "rule": "embedded"}
        question = {"question": draft.problem.question, "image": names, "answer": draft.problem.answer}
        items.append({"id": str(i)} | question | texts)
        responses += [{"id": str(i), "response": rollout.text} for rollout in siblings[id(draft.problem)]]
    write_jsonl(folder / "responses.jsonl", responses)
    drafters = Drafters([draft_source(each, items, folder) for each in where.split("+")])
    offers = [offer for i in range(0, len(items), BATCH) for offer in drafters.draft(items[i : i + BATCH])]
    drafted = [(offer and offer.text) or item["draft"] for item, offer in zip(items, offers, strict=True)]
    wanted = [oracle_repair(draft.problem, draft.draft.text, processor.tokenizer).strip() for draft in wrong]
    cases = [
        AuditCase(draft.problem.question, tuple(draft.problem.images), item["draft"], text, None, draft.problem)
        for draft, item, text in zip(wrong, items, drafted, strict=True)
    ]
    right = np.array([is_correct(draft.problem, text) for draft, text in zip(wrong, drafted, strict=True)])
    verdicts = np.array([result.verdict for result in EmbeddedAuditor().audit(cases)])
    by_hand = np.array([_edits(item["draft"], text) for item, text in zip(items, wanted, strict=True)])
    corrected = np.array([_edits(text, target) for text, target in zip(drafted, wanted, strict=True)])
    return {
        "items": len(items),
        "right": float(right.mean()),
        "clean": float((right & (verdicts == "clean")).mean()),
        "ready": float((corrected == 0).mean()),
        "deceptive": float((right & (verdicts == "unseen_evidence")).mean()),
        "edits_by_hand": float(by_hand.mean()),
        "edits_corrected": float(corrected.mean()),
        "edits_better_start": float(np.minimum(by_hand, corrected).mean()),
    }


def _edits(text: str, wanted: str) -> int:
    return Levenshtein.distance(text.split(), wanted.split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("label")
    parser.add_argument("drafters", nargs="+", help="folders of repair models, or sibling: one for each seed")
    parser.add_argument("--questions", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = []
    for seed, where in enumerate(options.drafters):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(measure(where, options.questions, seed, Path(folder)))
        print(options.label, seed, json.dumps(runs[-1]), flush=True)
    Kept().add("drafted_repairs", options.label, runs)


if __name__ == "__main__":
    main()
