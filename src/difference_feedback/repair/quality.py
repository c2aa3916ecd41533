"""How good a repair model is: does it repair, does it edit as little as a person would, and does it mark the errors?"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from transformers import PreTrainedModel, ProcessorMixin

from difference_feedback import world
from difference_feedback.judges.audit import AuditCase, Auditor
from difference_feedback.judges.audit_log import audit_statistics
from difference_feedback.judges.blank_image import StandIn, stand_in
from difference_feedback.judges.questions import Grade
from difference_feedback.method.alignment import align, edit_cost
from difference_feedback.method.repairs import Repairer
from difference_feedback.method.selection import choose_repair
from difference_feedback.models.end_tokens import end_of
from difference_feedback.models.generate import Answerer
from difference_feedback.models.ranks import shared_work
from difference_feedback.repair.drafts import Q, WrongDraft, sample_groups, wrong_drafts
from difference_feedback.world import Problem
from difference_feedback.world.oracle import MaskQuality, error_tokens, mask_quality, oracle_repair


@dataclass(frozen=True)
class RepairQuality:
    """Shares are of all drafts; edit costs and masks are of the drafts with a feasible repair, the chosen one each."""

    drafts: int
    """Held-out wrong answers."""
    num_samples: int
    """Repairs of each draft."""
    accuracy_at_1: float | None
    """Expected for one sampled repair: the share of correct ones among the judged. Null: none was judged."""
    accuracy_at_2: float | None
    """At least one of the first two is right. Null: there was one sample each."""
    feasible_share: float | None
    """At least one of the `num_samples` is right. [DF, Eq. 6]"""
    edit_cost: float | None
    """Mean edit cost of the chosen repairs. [DF, Eq. 2]"""
    oracle_edit_cost: float | None
    """Of the oracle's repairs of the same drafts."""
    mask: MaskQuality | None
    """How well the tokens that the repairs change match those that state a wrong value."""
    oracle_mask: MaskQuality | None
    """The same of the oracle's repairs."""
    mask_drafts: int
    """Drafts whose error positions are known and that have a feasible repair."""
    cpu_seconds: float
    """Spent in the repair model."""
    blind_share: float | None = None
    """Of the drafts with images, those that are repaired right without them and the reference. [DF, Eq. 3]"""
    visual_survival: float | None = None
    """Of the right repairs of drafts with images, those whose `g_vis` is 1."""
    audit_survival: float | None = None
    """Of the right repairs that were audited, those that the auditor found clean."""
    audit_hits: dict[str, int] | None = None
    """Number of audited repairs by failure mode."""


def held_out_drafts(
    policy: PreTrainedModel | Answerer,
    processor: ProcessorMixin,
    questions: Sequence[Q],
    *,
    group_size: int = 4,
    seed: int = 9000,
    progress: str | None = "sampling drafts to measure",
    **sampling: Any,
) -> list[WrongDraft[Q]]:
    """One wrong answer each to those of `questions` that have a correct sibling for a reference.

    That is how a repair model meets them when a policy is trained.
    """
    sampling |= {"group_size": group_size, "seed": seed, "progress": progress}
    groups = sample_groups(policy, processor, questions, **sampling)
    return wrong_drafts(groups, seed=seed, one_per_problem=True)


def repair_quality(
    repairer: Repairer,
    drafts: Sequence[WrongDraft[Any]],
    tokenizer: Any,
    *,
    num_samples: int = 2,
    grade: Grade = world.is_correct,
    blind: bool = False,
    auditor: Auditor | None = None,
    over_ranks: bool = False,
) -> RepairQuality:
    """Repair every draft `num_samples` times and measure. `tokenizer` is the policy's.

    With `blind`, the drafts are repaired from a blank and from a noise image as well, once each; with an `auditor`, the
    right repairs are audited. With `over_ranks`, all ranks make this call, and share the audits.
    """
    start = time.process_time()
    repaired = repairer.repair([wrong.request for wrong in drafts], num_samples)
    seconds = time.process_time() - start
    verdicts, costs, oracle_costs, marked, oracle_marked, errors = [], [], [], [], [], []
    for wrong, candidates in zip(drafts, repaired, strict=True):
        problem, draft = wrong.problem, wrong.draft
        correct = [grade(problem, candidate.text) for candidate in candidates]
        verdicts.append(correct)
        ids = [candidate.token_ids for candidate in candidates]
        choice = choose_repair(draft.token_ids, ids, [None if c is None else float(c) for c in correct])
        if choice is None:
            continue
        costs.append(choice.edit_cost)
        if not isinstance(problem, Problem):
            continue
        oracle_alignment = align(draft.token_ids, _oracle_ids(problem, draft.text, draft.token_ids, tokenizer))
        oracle_costs.append(edit_cost(oracle_alignment))
        truth = error_tokens(problem, draft.token_ids, tokenizer)
        if truth is not None:
            errors.append(truth)
            marked.append(choice.alignment.source_mask)
            oracle_marked.append(oracle_alignment.source_mask)
    right = [
        (i, candidate.text)
        for i, (candidates, correct) in enumerate(zip(repaired, verdicts, strict=True))
        for candidate, hit in zip(candidates, correct, strict=True)
        if hit
    ]
    # A draft whose repairs are all unjudged is left out of the shares.
    judged = [[c for c in row if c is not None] for row in verdicts if not row or any(c is not None for c in row)]
    unknown = bool(verdicts) and not judged
    repaired_blind = _repaired_blind(repairer, drafts, grade) if blind else None
    audited = _audited(auditor, drafts, right, over_ranks) if auditor else None
    return RepairQuality(
        drafts=len(drafts),
        num_samples=num_samples,
        accuracy_at_1=None if unknown else _mean([c for correct in judged for c in correct]) or 0.0,
        accuracy_at_2=_mean([any(correct[:2]) for correct in judged]) if num_samples > 1 else None,
        feasible_share=None if unknown else _mean([any(correct) for correct in judged]) or 0.0,
        edit_cost=_mean(costs),
        oracle_edit_cost=_mean(oracle_costs),
        mask=mask_quality(marked, errors),
        oracle_mask=mask_quality(oracle_marked, errors),
        mask_drafts=len(errors),
        cpu_seconds=seconds,
        blind_share=None if repaired_blind is None else _mean(list(repaired_blind.values())),
        visual_survival=None
        if repaired_blind is None
        else _mean([not repaired_blind[i] for i, _ in right if i in repaired_blind]),
        audit_survival=None if audited is None else _mean([verdict == "clean" for verdict in audited if verdict]),
        audit_hits=None if audited is None else audit_statistics(audited).hits,
    )


def _repaired_blind(repairer: Repairer, drafts: Sequence[WrongDraft[Any]], grade: Grade) -> dict[int, bool]:
    """Whether drafts with images are repaired right from blank or noise images, without reference. [DF, Eq. 3]"""
    kinds: tuple[StandIn, ...] = ("blank", "noise")
    places = [i for i, wrong in enumerate(drafts) if len(wrong.problem.images)]
    requests = [
        replace(
            drafts[i].request, reference=None, images=[stand_in(image, kind, i) for image in drafts[i].problem.images]
        )
        for i in places
        for kind in kinds
    ]
    repaired = dict.fromkeys(places, False)
    for k, candidates in enumerate(repairer.repair(requests) if requests else []):
        i = places[k // len(kinds)]
        repaired[i] |= any(grade(drafts[i].problem, candidate.text) for candidate in candidates)
    return repaired


def _audited(
    auditor: Auditor, drafts: Sequence[WrongDraft[Any]], right: Sequence[tuple[int, str]], over_ranks: bool
) -> list[str | None]:
    """Verdicts on right repairs, given as the draft's place and the text; outages are None."""
    cases = []
    for i, text in right:
        problem = drafts[i].problem
        truth = problem if isinstance(problem, Problem) else None
        images = tuple(problem.images)
        cases.append(AuditCase(problem.question, images, drafts[i].draft.text, text, drafts[i].reference, truth))

    def verdicts(part: Sequence[AuditCase]) -> list[str | None]:
        return [result.verdict for result in auditor.audit(part)]

    return shared_work(cases, verdicts) if over_ranks else verdicts(cases)


def _oracle_ids(problem: Problem, text: str, draft_ids: Sequence[int], tokenizer: Any) -> list[int]:
    """The oracle's repair, ended where the draft is."""
    repaired = tokenizer.encode(oracle_repair(problem, text, tokenizer), add_special_tokens=False)
    return repaired + end_of(draft_ids, tokenizer)


def _mean(values: Sequence[float | bool]) -> float | None:
    return float(np.mean(values)) if values else None
