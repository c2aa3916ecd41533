"""The optimisation group G' over all ranks: its members, their advantages and their gates. [DF, Eqs. 8-9, 14-18]"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from difference_feedback.method.ablations import PairWeights, ablated_weights
from difference_feedback.method.alignment import Alignment
from difference_feedback.method.groups import pair_group
from difference_feedback.method.selection import choose_repair
from difference_feedback.method.settings import TokenTexts
from difference_feedback.trl.candidates import Candidates
from difference_feedback.trl.config import DFGRPOConfig
from difference_feedback.trl.pair_batch import Member
from difference_feedback.trl.rollouts import Rollouts


@dataclass(frozen=True)
class Repaired:
    """The repair chosen for a wrong answer, and its alignment with it."""

    token_ids: list[int]
    reward: float
    alignment: Alignment
    edit_cost: float


def choose_repairs(
    rollouts: Rollouts, candidates: Candidates, rewards: Sequence[float], gates: Sequence[bool], config: DFGRPOConfig
) -> dict[int, Repaired]:
    """One feasible repair for each wrong answer of this rank, where there is one, by its row. [DF, Eqs. 6-7]

    `rewards` and `gates` are in the order of `candidates.flat()`.
    """
    graded, repaired = iter(zip(rewards, gates, strict=True)), {}
    for row, token_ids in candidates.token_ids.items():
        own, opened = zip(*(next(graded) for _ in token_ids), strict=True)
        draft = rollouts.completion_ids[row]
        choice = choose_repair(draft, token_ids, own, config.reward_threshold, opened, **config.alignment_options)
        if choice is not None and choice.edit_cost <= config.max_edit_cost:
            i = choice.index
            repaired[row] = Repaired(token_ids[i], own[i], choice.alignment, choice.edit_cost)
    return repaired


class Place(NamedTuple):
    """A member's place in the optimisation group. `row` counts over all ranks' rollouts."""

    row: int
    is_repair: bool
    reward: float
    has_mask: bool
    advantage: float


def optimisation_group(
    rewards: npt.NDArray[np.float64],
    requested: Iterable[int],
    repair_rewards: Mapping[int, float],
    group_size: int,
    config: DFGRPOConfig,
) -> list[Place]:
    """`G'` of every prompt that asked for repairs, each wrong answer followed by its repair.

    Args:
        rewards: of all ranks' rollouts, `(N,)`, `group_size` rows a prompt.
        requested: rows for which a repair was asked.
        repair_rewards: row -> reward of its chosen repair.
    """
    places = []
    for start in sorted({row // group_size * group_size for row in requested}):
        own = {row - start: reward for row, reward in repair_rewards.items() if start <= row < start + group_size}
        group = pair_group(
            *(rewards[start : start + group_size], own, config.reward_threshold),
            *(config.empty_feasible, config.correct_rollouts if config.regroup else "leave"),
        )
        advantages = group.advantages(scale=config.scale_rewards == "group")
        columns = (group.rollout, group.is_repair, group.rewards, group.has_mask, advantages)
        for rollout, *rest in zip(*(column.tolist() for column in columns), strict=True):
            places.append(Place(start + rollout, *rest))
    return places


def members_here(
    places: Iterable[Place],
    rollouts: Rollouts,
    repaired: Mapping[int, Repaired],
    config: DFGRPOConfig,
    token_texts: TokenTexts,
) -> Iterator[Member]:
    """This rank's members: a pair stays where its wrong answer was sampled, so that no image has to travel."""
    for place in places:
        row = place.row - rollouts.offset
        if not 0 <= row < len(rollouts.prompts):
            continue
        token_ids = repaired[row].token_ids if place.is_repair else rollouts.completion_ids[row]
        if place.has_mask and config.weights != "ones":
            pair = _pair_weights(place.row, rollouts.completion_ids[row], repaired[row], config, token_texts)
            weights = pair.repair if place.is_repair else pair.wrong
        else:
            weights = np.ones(len(token_ids), np.float32)
        yield Member(row, token_ids, weights, place.reward, place.advantage, place.is_repair)


def _pair_weights(
    row: int, draft_ids: list[int], repaired: Repaired, config: DFGRPOConfig, token_texts: TokenTexts
) -> PairWeights:
    """The gate of both sides of a pair. What a control draws at random hangs on `row` and draft alone."""
    wrong = config.side_weights(repaired.alignment, "wrong", draft_ids, token_texts)
    repair = config.side_weights(repaired.alignment, "repair", repaired.token_ids, token_texts)
    rng = np.random.default_rng([config.reference_seed, row, *draft_ids])
    return ablated_weights(config.weights, wrong, repair, rng)


def describe_pairs(
    members: Iterable[Member], rollouts: Rollouts, repaired: Mapping[int, Repaired], group_size: int
) -> list[dict[str, Any]]:
    """The pairs as a report shows them: plain lists and numbers, besides `example`, the row of the data set."""
    pairs: dict[int, dict[str, Any]] = {}
    for member in members:
        if member.row not in repaired:
            continue
        repair = repaired[member.row]
        pair = pairs.setdefault(
            member.row,
            {
                "prompt_index": (rollouts.offset + member.row) // group_size,
                "example": rollouts.examples[member.row],
                "edit_cost": repair.edit_cost,
            },
        )
        mask = repair.alignment.target_mask if member.is_repair else repair.alignment.source_mask
        pair["repair" if member.is_repair else "wrong"] = {
            "token_ids": member.token_ids,
            "mask": mask.astype(int).tolist(),
            "weights": member.weights.tolist(),
            "reward": member.reward,
            "advantage": member.advantage,
        }
    return list(pairs.values())
