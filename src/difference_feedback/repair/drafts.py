"""Drafts: answers sampled from a policy and graded, the raw material of everything that concerns repairs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from transformers import PreTrainedModel, ProcessorMixin

from difference_feedback.data.question import Question
from difference_feedback.data.repair_set import RepairExample
from difference_feedback.errors import DataError
from difference_feedback.judges.answers import Rollout, graded_answers
from difference_feedback.method.repairs import RepairRequest
from difference_feedback.models.generate import Answerer
from difference_feedback.world import Problem
from difference_feedback.world.mixture import stream_problems
from difference_feedback.world.oracle import oracle_repair, other_correct_answer

_SMALLEST_ROUND = 64
Q = TypeVar("Q", bound=Question)


@dataclass(frozen=True)
class RolloutGroup(Generic[Q]):
    """The answers sampled for one problem."""

    problem: Q
    rollouts: list[Rollout]

    @property
    def correct(self) -> list[Rollout]:
        return [rollout for rollout in self.rollouts if rollout.correct]

    @property
    def wrong(self) -> list[Rollout]:
        return [rollout for rollout in self.rollouts if rollout.correct is False]  # None: unjudged, not wrong


@dataclass(frozen=True)
class WrongDraft(Generic[Q]):
    """A wrong answer to a problem, and a correct one to the same problem."""

    problem: Q
    draft: Rollout
    reference: str

    @property
    def request(self) -> RepairRequest:
        return RepairRequest(self.problem.prompt, self.problem.images, self.draft.token_ids, self.reference)


def sample_groups(
    policy: PreTrainedModel | Answerer,
    processor: ProcessorMixin,
    problems: Sequence[Q],
    *,
    group_size: int,
    max_new_tokens: int = 64,
    **sampling: Any,
) -> list[RolloutGroup[Q]]:
    """Sample `group_size` answers to each problem, and grade them. `sampling` is as for `graded_answers`."""
    sampling |= {"num_samples": group_size, "max_new_tokens": max_new_tokens}
    answers = graded_answers(policy, processor, problems, **sampling)
    return [RolloutGroup(problem, rollouts) for problem, rollouts in zip(problems, answers, strict=True)]


def wrong_drafts(
    groups: Sequence[RolloutGroup[Q]],
    *,
    seed: int = 0,
    other_reference: Callable[[Q, np.random.Generator], str] | None = None,
    one_per_problem: bool = False,
) -> list[WrongDraft[Q]]:
    """The wrong answers of `groups`, each with a reference drawn uniformly from its correct siblings. [DF, Eq. 13]

    A group without a correct answer is left out, unless `other_reference` gives a reference for its problem.
    """
    rng = np.random.default_rng(seed)
    drafts = []
    for group in groups:
        wrong = group.wrong[:1] if one_per_problem else group.wrong
        for rollout in wrong:
            if group.correct:
                reference = group.correct[rng.integers(len(group.correct))].text
            elif other_reference is not None:
                reference = other_reference(group.problem, rng)
            else:
                continue
            drafts.append(WrongDraft(group.problem, rollout, reference))
    return drafts


def oracle_repairs(
    policy: PreTrainedModel | Answerer,
    processor: ProcessorMixin,
    n: int,
    *,
    problems: Iterator[Problem] | None = None,
    seed: int = 0,
    max_rollouts: int | None = None,
    progress: str | None = "sampling drafts for the oracle",
    **sampling: Any,
) -> list[RepairExample]:
    """`n` wrong answers of `policy` to problems on images kept for this, repaired by `oracle_repair`.

    One answer is sampled for each problem; the reference of a wrong one is a correct answer in a form drawn uniformly.
    Problems are taken from `problems` (by default all that the images kept for this allow) until there are `n` wrong
    answers.

    Raises `DataError` when `max_rollouts` answers (default 20 `n`) hold fewer: the policy is nearly always right there.
    """
    sampling = {"batch_size": 128} | sampling
    limit = max_rollouts or 20 * n
    problems = problems or stream_problems("repair", seed)
    drafts: list[WrongDraft[Problem]] = []
    rollouts, share = 0, 0.5
    while len(drafts) < n:
        if rollouts >= limit:
            raise DataError(
                f"{rollouts} answers on labelled problems hold {len(drafts)} wrong ones, {n} are needed: ask for "
                "fewer, or sample at a higher temperature"
            )
        missing = n - len(drafts)
        size = min(max(_SMALLEST_ROUND, int(missing / share) + 1), limit - rollouts)
        groups = sample_groups(
            policy,
            processor,
            [next(problems) for _ in range(size)],
            group_size=1,
            seed=seed + rollouts,
            progress=progress,
            **sampling,
        )
        drafts += wrong_drafts(groups, seed=seed + rollouts, other_reference=other_correct_answer)
        rollouts += size
        share = max(len(drafts) / rollouts, 0.02)
    tokenizer = processor.tokenizer
    return [_repaired(f"{seed}-{i}", draft, tokenizer) for i, draft in enumerate(drafts[:n])]


def _repaired(name: str, wrong: WrongDraft[Problem], tokenizer: Any) -> RepairExample:
    problem, draft = wrong.problem, wrong.draft.text
    repaired = oracle_repair(problem, draft, tokenizer)
    row = RepairExample(name, problem.question, problem.images, draft, wrong.reference, repaired)
    return replace(row, conversation=problem.prompt)
