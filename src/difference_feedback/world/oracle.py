"""The embedded world's own annotator, who repairs wrong answers by hand. [DF, Sec. 3, Eq. 1]"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein
from transformers import PreTrainedModel, ProcessorMixin

from difference_feedback import world
from difference_feedback.data.repair_set import HandRepair
from difference_feedback.errors import DataError
from difference_feedback.repair.drafts import WrongDraft, sample_groups, wrong_drafts
from difference_feedback.world import Problem
from difference_feedback.world.mixture import stream_problems

_SMALLEST_ROUND = 64


def annotate(problem: Problem, draft: str, tokenizer: Any) -> str:
    """The closest correct answer: in practice the draft's own form, its wrong values put right.

    Closeness is that of `closest`.
    """
    return closest(draft, world.correct_answers(problem), tokenizer)


def closest(draft: str, answers: Sequence[str], tokenizer: Any) -> str:
    """The answer at the smallest Levenshtein distance from the draft, in tokens of `tokenizer`; the first of equals."""
    ids = tokenizer.encode(draft.strip(), add_special_tokens=False)

    def distance(answer: str) -> int:
        return Levenshtein.distance(ids, tokenizer.encode(answer, add_special_tokens=False))

    return min(answers, key=distance)


def other_correct_answer(problem: Problem, rng: np.random.Generator) -> str:
    """A correct answer in a form drawn uniformly: what a correct sibling rollout would look like."""
    answers = world.correct_answers(problem)
    return answers[rng.integers(len(answers))]


def hand_repaired_set(
    policy: PreTrainedModel,
    processor: ProcessorMixin,
    n: int,
    *,
    temperature: float = 1.0,
    max_new_tokens: int = 64,
    batch_size: int = 128,
    seed: int = 0,
    max_rollouts: int | None = None,
    progress: str | None = "drafts to repair by hand",
) -> list[HandRepair]:
    """`n` wrong answers of `policy` to problems on images kept for this, repaired by `annotate`.

    One answer is sampled for each problem; the reference of a wrong one is a correct answer in a form drawn uniformly.
    Problems are drawn until there are `n` wrong answers.

    Raises `DataError` when `max_rollouts` answers (default 20 `n`) hold fewer: the policy is nearly always right there.
    """
    limit = max_rollouts or 20 * n
    problems = stream_problems("repair", seed)
    found: list[WrongDraft[Problem]] = []
    rollouts, share = 0, 0.5
    while len(found) < n:
        if rollouts >= limit:
            raise DataError(
                f"{rollouts} answers on labelled problems hold {len(found)} wrong ones, {n} were asked for: ask for "
                "fewer, or sample at a higher temperature"
            )
        missing = n - len(found)
        size = min(max(_SMALLEST_ROUND, int(missing / share) + 1), limit - rollouts)
        groups = sample_groups(
            policy,
            processor,
            [next(problems) for _ in range(size)],
            group_size=1,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            batch_size=batch_size,
            seed=seed + rollouts,
            progress=progress,
        )
        found += wrong_drafts(groups, seed=seed + rollouts, other_reference=other_correct_answer)
        rollouts += size
        share = max(len(found) / rollouts, 0.02)
    tokenizer = processor.tokenizer
    return [_repaired(f"{seed}-{i}", draft, tokenizer) for i, draft in enumerate(found[:n])]


def _repaired(name: str, wrong: WrongDraft[Problem], tokenizer: Any) -> HandRepair:
    problem, draft = wrong.problem, wrong.draft.text
    repaired = annotate(problem, draft, tokenizer)
    return HandRepair(name, problem.question, problem.images, draft, wrong.reference, repaired)
