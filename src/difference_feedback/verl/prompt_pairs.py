"""One prompt's answers, with the repairs of the wrong ones: what the update keeps of them, and its weights.

Host-free: token ids and rewards in, rows with weights out. [DF, Eqs. 5-9, 11-16, 26]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from difference_feedback.method.alignment import Alignment
from difference_feedback.method.groups import choose_reference, pair_group, split_by_reward
from difference_feedback.method.masks import FloatArray, Side
from difference_feedback.method.selection import choose_repair
from difference_feedback.method.settings import TokenTexts
from difference_feedback.verl.settings import Settings


@dataclass(frozen=True)
class Answer:
    """A sampled answer, or a repair of one; `reward` is None where it was not judged."""

    token_ids: list[int]
    text: str
    reward: float | None


@dataclass(frozen=True)
class Row:
    """What the update does with an answer: `index` is the rollout's, of a repair the one that it repairs.

    `weights` are `(T,)`; None says that the answer leaves the update.
    """

    index: int
    is_repair: bool
    weights: FloatArray | None


@dataclass(frozen=True)
class PromptPairs:
    """All answers of a prompt as rows, the repairs that were chosen, and counts for the metrics."""

    rows: list[Row]
    repairs: dict[int, Answer]
    counts: dict[str, float] = field(default_factory=dict)


def references_of(
    answers: Sequence[Answer], ground_truth: str | None, settings: Settings, rng: np.random.Generator
) -> dict[int, str]:
    """Wrong answers, by index, and the text that each is to be repaired towards; none where there is none. [Eq. 13]"""
    split = split_by_reward([answer.reward for answer in answers], settings.reward_threshold)
    found = {}
    for i in split.wrong.tolist():
        text = None
        if settings.reference != "answer" and len(split.correct):
            text = answers[choose_reference(split, rng)].text
        elif settings.reference != "sibling":
            text = ground_truth
        if text is not None:
            found[i] = text
    return found


def pair_prompt(
    answers: Sequence[Answer],
    candidates: Mapping[int, Sequence[Answer]],
    settings: Settings,
    texts: TokenTexts,
    by_critic: bool,
) -> PromptPairs:
    """Choose among the candidate repairs, align, and weigh every answer.

    Without a critic the rows that stay are `G' = Y⁻ ∪ Ỹ`: wrong answers with a right repair, and those repairs. With a
    critic (DF-PPO) every answer stays and no repair is added: weights are 1 for right answers and the mask for wrong
    ones. A wrong answer without a right repair goes by `empty_feasible`: weights of 0 ("drop") or 1 with a critic.

    Args:
        candidates: by index of the wrong answer, its graded repairs.
        texts: the text of each token id, for step-level masks.
    """
    repairs: dict[int, Answer] = {}
    alignments: dict[int, Alignment] = {}
    cost = 0.0
    for i, found in candidates.items():
        rewards = [candidate.reward for candidate in found]
        ids = [candidate.token_ids for candidate in found]
        choice = choose_repair(
            answers[i].token_ids, ids, rewards, settings.reward_threshold, **settings.alignment_options
        )
        if choice is not None:
            repairs[i], alignments[i] = found[choice.index], choice.alignment
            cost += choice.edit_cost

    def weigh(index: int, side: Side) -> FloatArray:
        own = answers[index] if side == "wrong" else repairs[index]
        if settings.weights == "ones":
            return np.ones(len(own.token_ids), np.float32)
        return settings.side_weights(alignments[index], side, own.token_ids, texts)

    rewards = [answer.reward for answer in answers]
    split = split_by_reward(rewards, settings.reward_threshold)
    kept: dict[tuple[int, bool], FloatArray] = {}
    if by_critic:
        unrepaired = float(settings.empty_feasible == "broadcast")
        for i in split.correct.tolist():
            kept[i, False] = np.ones(len(answers[i].token_ids), np.float32)
        for i in split.wrong.tolist():
            full = np.full(len(answers[i].token_ids), unrepaired, np.float32)
            kept[i, False] = weigh(i, "wrong") if i in repairs else full
    else:
        own_rewards = {i: repair.reward for i, repair in repairs.items()}
        group = pair_group(
            *(rewards, own_rewards, settings.reward_threshold), *(settings.empty_feasible, settings.correct_rollouts)
        )
        columns = (group.rollout, group.is_repair, group.has_mask)
        for i, is_repair, has_mask in zip(*(column.tolist() for column in columns), strict=True):
            ones = np.ones(len(answers[i].token_ids), np.float32)
            kept[i, is_repair] = weigh(i, "repair" if is_repair else "wrong") if has_mask else ones
    rows = [Row(i, False, kept.get((i, False))) for i in range(len(answers))]
    rows += [Row(i, True, weights) for (i, is_repair), weights in kept.items() if is_repair]
    counts = {
        **{"answers": len(answers), "wrong": len(split.wrong), "unjudged": len(split.unjudged)},
        **{"requested": len(candidates), "pairs": len(repairs), "edit_cost": cost},
    }
    return PromptPairs(rows, repairs, counts)
