"""Repairs as they come from the repair model: asked for, checked against what the policy can read. [DF, Eq. 5]"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from difference_feedback.conversations import split_images
from difference_feedback.errors import DataError
from difference_feedback.repair.limits import Limits
from difference_feedback.repair.protocol import Repairer, RepairRequest
from difference_feedback.trl.rollouts import Rollouts


@dataclass(frozen=True)
class Candidates:
    """The usable repairs of this rank's wrong answers, `row -> token ids of each`, and those refused, by reason."""

    token_ids: dict[int, list[list[int]]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    projected: int = 0
    """Usable ones that came as text and were put into the policy's tokens."""

    def flat(self) -> list[tuple[int, list[int]]]:
        return [(row, token_ids) for row, candidates in self.token_ids.items() for token_ids in candidates]


def ask(
    repairer: Repairer, rollouts: Rollouts, references: Mapping[int, str], num_repairs: int, limits: Limits
) -> Candidates:
    """Sample `num_repairs` repairs of each wrong answer (row -> reference) and keep those the policy can read.

    Raises `DataError` when the repairer does not answer every request.
    """
    requests = []
    for row, reference in references.items():
        prompt, images = split_images(rollouts.prompts[row])
        requests.append(RepairRequest(prompt, images, rollouts.completion_ids[row], reference))
    if not requests:
        return Candidates()
    with torch.no_grad():
        answers = repairer.repair(requests, num_repairs)
    if len(answers) != len(requests):
        raise DataError(
            f"{type(repairer).__name__}.repair returned {len(answers)} lists for {len(requests)} requests; it must "
            "return one list of repairs per request, in the order of the requests."
        )
    token_ids: dict[int, list[list[int]]] = {}
    refused: Counter[str] = Counter()
    projected = 0
    for row, repairs in zip(references, answers, strict=True):
        refused["missing"] += max(0, num_repairs - len(repairs))
        for repair in repairs:
            reason = limits.refusal(repair.token_ids)
            if reason is None:
                token_ids.setdefault(row, []).append([int(i) for i in repair.token_ids])
                projected += repair.projected
            else:
                refused[reason] += 1
    return Candidates(token_ids, refused, projected)
