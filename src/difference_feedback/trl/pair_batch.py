"""From TRL's batch of rollouts to a batch of the optimisation group: wrong answers and their repairs. [DF, Eqs. 14-18]

Every rank makes the same number of rows, since gathers and micro-batches must agree: `lean_update.py` moves rows
between ranks, and a rank that still has fewer fills up with filler rows: a real prompt with its image, and a completion
of no tokens. An empty completion mask takes such a row out of every sum that TRL makes. TRL's row means still count it,
which `loss_scale` undoes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from trl.trainer.utils import pad

from difference_feedback.method.masks import pad_weights
from difference_feedback.method.pairs import GroupRow, Member, WeightedPair, group_rows
from difference_feedback.trl.config import DFGRPOConfig
from difference_feedback.trl.image_rows import PER_TOKEN_FIELDS, select_rows
from difference_feedback.trl.rollouts import Rollouts

_REBUILT = {
    "completion_ids",
    "completion_mask",
    "advantages",
    "num_items_in_batch",
    "old_per_token_logps",
    "ref_per_token_logps",
    "sampling_per_token_logps",
    "importance_sampling_ratio",
    *PER_TOKEN_FIELDS,
}


def rows_of_all(
    rewards: npt.NDArray[np.float64],
    requested: Iterable[int],
    repair_rewards: Mapping[int, float | None],
    group_size: int,
    config: DFGRPOConfig,
) -> list[GroupRow]:
    """The rows of every prompt in the update, counted over all ranks' rollouts. [DF, Eqs. 14-18]

    Args:
        rewards: of all ranks' rollouts, `(N,)`, `group_size` rows a prompt.
        requested: rows for which a repair was requested; a prompt without one has no part in `G'`.
        repair_rewards: row -> reward of its chosen repair.
    """
    prompts = sorted({row // group_size for row in requested}) if config.regroup else range(len(rewards) // group_size)
    rows: list[GroupRow] = []
    for start in (prompt * group_size for prompt in prompts):
        stop = start + group_size
        repairs = {row - start: reward for row, reward in repair_rewards.items() if start <= row < stop}
        group = group_rows(rewards[start:stop], repairs, config, scale=config.scale_rewards == "group")
        rows += [replace(row, rollout=start + row.rollout) for row in group]
    return rows


def members_here(rows: Iterable[GroupRow], rollouts: Rollouts, pairs: Mapping[int, WeightedPair]) -> list[Member]:
    """This rank's members: a pair is made where its wrong answer was sampled."""
    here = ((row, row.rollout - rollouts.offset) for row in rows)
    return [
        replace(row, rollout=i).member(rollouts.completion_ids[i], pairs.get(i))
        for row, i in here
        if 0 <= i < len(rollouts.prompts)
    ]


def rows_per_rank(members: Sequence[int], steps_per_generation: int) -> int:
    """Rows that every rank makes, given each rank's number of members: whole micro-batches, at least one row each."""
    return steps_per_generation * max(1, math.ceil(max(members) / steps_per_generation))


def build_batch(
    batch: dict[str, Any], members: Sequence[Member], num_rows: int, pad_id: int, pad_to_multiple_of: int | None = None
) -> dict[str, Any]:
    """Make the batch that TRL's loss reads, from its batch of rollouts and this rank's members.

    Returns TRL's own fields, `(num_rows, ...)`, `weights` `(num_rows, T)` and `is_repair` `(num_rows,)`; `advantages`
    `(num_rows,)` are not weighted yet. Log-probabilities are left out: the policy's own prompt with the new completions
    needs a forward pass.
    """
    device, prompt_width = batch["prompt_ids"].device, batch["prompt_ids"].size(1)
    blank = Member(0, [], np.zeros(0, np.float32), 0.0, False)
    filled = [*members, *[blank] * (num_rows - len(members))]
    rows = [member.row for member in filled]
    selected = select_rows({k: v for k, v in batch.items() if k not in _REBUILT}, rows)

    token_ids = [torch.tensor(member.token_ids, dtype=torch.long) for member in filled]
    completion_ids = pad(token_ids, pad_id, "right", pad_to_multiple_of)
    if completion_ids.size(1) == 0:  # only fillers
        completion_ids = torch.full((num_rows, pad_to_multiple_of or 1), pad_id)
    width = completion_ids.size(1)
    lengths = torch.tensor([len(ids) for ids in token_ids])
    selected["completion_ids"] = completion_ids.to(device)
    selected["completion_mask"] = (torch.arange(width) < lengths[:, None]).long().to(device)
    selected["weights"] = torch.as_tensor(pad_weights([member.weights for member in filled], width), device=device)
    selected["is_repair"] = torch.tensor([member.is_repair for member in filled], device=device)
    selected["advantages"] = torch.tensor([member.advantage for member in filled], device=device)
    for name in PER_TOKEN_FIELDS:
        if name in batch:
            types = batch[name][rows, :prompt_width]
            selected[name] = torch.cat([types, types.new_zeros(num_rows, width)], dim=1)
    if "importance_sampling_ratio" in batch:
        ratios = batch["importance_sampling_ratio"]
        selected["importance_sampling_ratio"] = _sampler_ratios(ratios, members, num_rows, width)
    return selected


def weigh_rollouts(batch: dict[str, Any], members: Sequence[Member]) -> torch.Tensor:
    """Weights `(B, T)` for the original group, without repairs; ones for unjudged answers."""
    weights = batch["completion_mask"].float()
    for member in members:
        weights[member.row, : len(member.weights)] = torch.as_tensor(member.weights, device=weights.device)
    return weights


def _sampler_ratios(ratios: torch.Tensor, members: Sequence[Member], num_rows: int, width: int) -> torch.Tensor:
    """vLLM's correction, `(B, 1)` or `(B, T)`: kept for rollouts, 1 for repairs, which the policy never sampled."""
    chosen = ratios.new_ones(num_rows, 1 if ratios.size(1) == 1 else width)
    kept = min(chosen.size(1), ratios.size(1))
    for i, member in enumerate(members):
        if not member.is_repair:
            chosen[i, :kept] = ratios[member.row, :kept]
    return chosen
