"""Examples for the report: wrong answers with their repairs, masks, known errors and weighted advantages."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from difference_feedback.data.image_files import data_url, png_bytes
from difference_feedback.method.groups import pair_group
from difference_feedback.method.masks import token_weights
from difference_feedback.method.repairs import Repairer, RepairRequest
from difference_feedback.method.selection import Choice, choose_repair
from difference_feedback.repair.drafts import RolloutGroup, sample_groups
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
    groups = sample_groups(policy, processor, problems, group_size=group_size, seed=seed)
    return list(islice(_repaired(groups, processor, repairer, num_repairs, np.random.default_rng(seed)), n))


def _repaired(
    groups: Sequence[RolloutGroup], processor: Any, repairer: Repairer, num_repairs: int, rng: np.random.Generator
) -> Iterator[Example]:
    for group in groups:
        if not group.wrong or not group.correct:
            continue
        reference = group.correct[rng.integers(len(group.correct))].text
        problem = group.problem
        requests = [
            RepairRequest(problem.prompt, list(problem.images), wrong.token_ids, reference) for wrong in group.wrong
        ]
        choices: dict[int, tuple[Choice, list[int]]] = {}
        for i, candidates in enumerate(repairer.repair(requests, num_repairs)):
            rewards = [float(is_correct(problem, candidate.text)) for candidate in candidates]
            ids = [candidate.token_ids for candidate in candidates]
            choice = choose_repair(group.wrong[i].token_ids, ids, rewards)
            if choice is not None:
                choices[i] = choice, ids[choice.index]
        if not choices:
            continue
        pairs = pair_group([0.0] * len(group.wrong), dict.fromkeys(choices, 1.0))
        shown = min(choices)
        advantages = pairs.advantages()[pairs.rollout == shown]
        choice, repaired = choices[shown]
        yield Example(
            id=f"{problem.task} {rng.integers(10**6):06d}",
            task=problem.task,
            question=problem.question,
            images=[data_url(png_bytes(image)) for image in problem.images],
            answer=problem.answer,
            reference=reference,
            wrong=_side(problem, processor.tokenizer, group.wrong[shown].token_ids, choice, "wrong", advantages[0]),
            repair=_side(problem, processor.tokenizer, repaired, choice, "repair", advantages[1]),
            edit_cost=choice.edit_cost,
        )


def _side(problem: Problem, tokenizer: Any, ids: list[int], choice: Choice, side: Any, advantage: float) -> ShownAnswer:
    weights = token_weights(choice.alignment, side)
    tokens = [tokenizer.decode([i], skip_special_tokens=True) or "⏎" for i in ids]
    errors = [error_tokens(problem, ids, tokenizer, roots_only) for roots_only in (False, True)]
    return ShownAnswer(
        tokens=tokens,
        mask=[bool(weight) for weight in weights],
        advantages=[float(weight * advantage) for weight in weights],
        advantage=float(advantage),
        errors=None if errors[0] is None else errors[0].tolist(),
        roots=None if errors[1] is None else errors[1].tolist(),
        reward=float(side == "repair"),
    )
