"""Repairs as they come from the repair model: asked for, checked against what the policy can read. [DF, Eq. 5]"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from difference_feedback.data.conversations import split_images
from difference_feedback.errors import DataError
from difference_feedback.method.limits import Limits
from difference_feedback.method.repairs import Repairer, RepairRequest
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


def with_siblings(
    candidates: Candidates,
    rewards: Sequence[float],
    requested: Iterable[int],
    offset: int,
    completion_ids: Sequence[list[int]],
    rollout_rewards: npt.NDArray[np.float64],
    group_size: int,
    threshold: float,
) -> tuple[Candidates, list[float]]:
    """Add the right answers of each wrong answer's own group, as sampled, behind the repairs; and their rewards.

    Args:
        rewards: of the repairs, in the order of `candidates.flat()`.
        requested: this rank's rows that want a repair; `offset` is its first row's place among all ranks'.
        completion_ids, rollout_rewards: of all ranks' rollouts, `(N,)`, `group_size` rows a prompt.
    """
    graded = iter(rewards)
    own = {row: [(ids, next(graded)) for ids in repairs] for row, repairs in candidates.token_ids.items()}
    for row in requested:
        start = (offset + row) // group_size * group_size
        group = range(start, start + group_size)
        right = [(completion_ids[i], float(rollout_rewards[i])) for i in group if rollout_rewards[i] >= threshold]
        own[row] = [*own.get(row, ()), *right]
    own = {row: found for row, found in own.items() if found}
    token_ids = {row: [ids for ids, _ in found] for row, found in own.items()}
    return replace(candidates, token_ids=token_ids), [reward for found in own.values() for _, reward in found]
