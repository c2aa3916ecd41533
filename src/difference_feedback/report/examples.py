"""Examples for the report: wrong answers with their repairs, masks, known errors and weighted advantages."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from difference_feedback.data.image_files import data_url, png_bytes
from difference_feedback.method.pairs import Answer, Member, choose_references, pair_prompt
from difference_feedback.method.repairs import Repairer, RepairRequest
from difference_feedback.method.settings import PairSettings
from difference_feedback.method.token_texts import token_texts
from difference_feedback.repair.drafts import sample_groups
from difference_feedback.report.data import Example, ShownAnswer
from difference_feedback.world import Problem, is_correct
from difference_feedback.world.oracle import error_tokens


def make_examples(
    policy: Any,
    processor: Any,
    repairer: Repairer,
    problems: Sequence[Problem],
    n: int,
    *,
    group_size: int = 8,
    num_repairs: int = 1,
    seed: int = 0,
) -> list[Example]:
    """At most `n` repaired wrong answers of `policy`, one a problem, taken through the method as training does it."""
    settings, rng, tokenizer = PairSettings(num_repairs=num_repairs), np.random.default_rng(seed), processor.tokenizer
    examples: list[Example] = []
    for group in sample_groups(policy, processor, problems, group_size=group_size, seed=seed):
        if len(examples) == n:
            break
        problem = group.problem
        answers = [Answer(sample.token_ids, 0.0, sample.text) for sample in group.wrong]
        answers += [Answer(sample.token_ids, 1.0, sample.text) for sample in group.correct]
        rewards, texts = [answer.reward for answer in answers], [answer.text for answer in answers]
        references = choose_references(rewards, texts, None, settings, rng)
        if not references.texts:
            continue
        requests = [
            RepairRequest(problem.prompt, problem.images, list(answers[i].token_ids), reference)
            for i, reference in references.texts.items()
        ]
        candidates = {
            i: [Answer(repair.token_ids, float(is_correct(problem, repair.text))) for repair in repairs]
            for i, repairs in zip(references.texts, repairer.repair(requests, num_repairs), strict=True)
        }
        members, pairs = pair_prompt(answers, references, candidates, settings, token_texts(tokenizer))
        if not pairs:
            continue
        shown = min(pairs)
        wrong, repair = (_side(problem, tokenizer, member) for member in members if member.row == shown)
        example = Example(
            id=f"{problem.task} {rng.integers(10**6):06d}",
            task=problem.task,
            question=problem.question,
            images=[data_url(png_bytes(image)) for image in problem.images],
            answer=problem.answer,
            reference=references.texts[shown],
            wrong=wrong,
            repair=repair,
            edit_cost=pairs[shown].edit_cost,
        )
        examples.append(example)
    return examples


def _side(problem: Problem, tokenizer: Any, member: Member) -> ShownAnswer:
    ids = list(member.token_ids)
    errors, roots = (error_tokens(problem, ids, tokenizer, roots_only) for roots_only in (False, True))
    return ShownAnswer(
        tokens=[tokenizer.decode([i], skip_special_tokens=True) or "⏎" for i in ids],
        mask=[bool(weight) for weight in member.weights],
        advantages=[float(weight * member.advantage) for weight in member.weights],
        advantage=member.advantage,
        errors=None if errors is None else errors.tolist(),
        roots=None if roots is None else roots.tolist(),
        reward=float(member.is_repair),
    )
