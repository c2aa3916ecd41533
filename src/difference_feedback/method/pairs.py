"""From one prompt's answers and the repairs of the wrong ones to rows with weights and advantages. [DF, Eqs. 5-18, 26]

Four steps without a host, and their composition `pair_prompt`:

    choose_references   which wrong answers get a repair, and towards which right answer    [Eqs. 11-13]
    choose_pair         the cheapest right candidate, aligned with the wrong answer         [Eqs. 6-8]
    weigh_pair          the weights of both sides' tokens                                   [Eqs. 8-10]
    group_rows          the rows of the update and their advantages                         [Eqs. 14-18, 26]

A host that holds a whole prompt calls the composition. A host whose groups are spread over ranks calls the steps: it
chooses and weighs a pair on the rank of its wrong answer, and needs only the rewards of the others to build the group.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from difference_feedback.method.ablations import PairWeights, ablated_weights
from difference_feedback.method.alignment import Alignment
from difference_feedback.method.groups import (
    Rewards,
    SkipReason,
    choose_reference,
    group_advantages,
    pair_group,
    skip_reason,
    split_by_reward,
)
from difference_feedback.method.masks import FloatArray
from difference_feedback.method.selection import choose_repair
from difference_feedback.method.settings import PairSettings
from difference_feedback.method.token_texts import TokenTexts


@dataclass(frozen=True)
class Answer:
    """A sampled answer, or a candidate repair of one; `reward` is None or NaN where it is unjudged."""

    token_ids: Sequence[int]
    reward: float | None
    text: str = ""
    """Needed where the answer can be a reference."""
    lowest_probability: float = 1.0
    """The policy's probability of the least probable token; 1 where it was not measured. See `min_probability`."""


class References(NamedTuple):
    """The text towards which each wrong answer is repaired, by its index, or why the prompt has none."""

    texts: dict[int, str]
    skipped: SkipReason | None


def choose_references(
    rewards: Rewards, texts: Sequence[str], annotated: str | None, settings: PairSettings, rng: np.random.Generator
) -> References:
    """A reference for every wrong answer; a right answer's text costs one draw of `rng`. [DF, Eq. 13]

    Args:
        rewards, texts: of the prompt's answers, `(G,)`.
        annotated: the right answer in the data, if there is one.
    """
    split = split_by_reward(rewards, settings.reward_threshold)
    by_sibling = settings.reference != "answer" and len(split.correct) > 0
    by_answer = settings.reference != "sibling" and annotated is not None
    reason = skip_reason(split, by_answer)
    if reason is None and not by_sibling and not by_answer:
        reason = SkipReason.NO_REFERENCE  # the settings exclude its right answers, and the data have none
    wrong = split.wrong.tolist() if reason is None else []
    return References({i: texts[choose_reference(split, rng)] if by_sibling else str(annotated) for i in wrong}, reason)


@dataclass(frozen=True)
class WeightedPair:
    """A wrong answer's chosen repair, their alignment, and the weights of both sides' tokens."""

    repair: Answer
    edit_cost: float
    alignment: Alignment
    weights: PairWeights


def choose_pair(
    wrong: Sequence[int], candidates: Sequence[Answer], place: Sequence[int], settings: PairSettings, texts: TokenTexts
) -> WeightedPair | None:
    """The candidate with the fewest edits among the right and plausible ones, with its weights. [DF, Eqs. 6-10]

    None where no candidate is right, or this one changes more than `max_edit_cost`. `wrong` are the token ids of
    the wrong answer; `place` are numbers that say where in the run it stands.
    """
    choice = choose_repair(
        wrong,
        [candidate.token_ids for candidate in candidates],
        [candidate.reward for candidate in candidates],
        settings.reward_threshold,
        [candidate.lowest_probability >= settings.min_probability for candidate in candidates],
        **settings.alignment_options,
    )
    if choice is None or choice.edit_cost > settings.max_edit_cost:
        return None
    weights = weigh_pair(choice.alignment, place, settings, texts)
    return WeightedPair(candidates[choice.index], choice.edit_cost, choice.alignment, weights)


def weigh_pair(alignment: Alignment, place: Sequence[int], settings: PairSettings, texts: TokenTexts) -> PairWeights:
    """The weights of both sides, `(T,)` and `(T̃,)`: mask, soft or by steps, or an ablation of it. [DF, Eqs. 8-10]

    What an ablation draws at random depends on `reference_seed`, `place` and the wrong answer alone.
    """
    wrong, repair = alignment.source.tolist(), alignment.target.tolist()
    if settings.weights == "ones":
        return PairWeights(np.ones(len(wrong), np.float32), np.ones(len(repair), np.float32))
    return ablated_weights(
        settings.weights,
        settings.side_weights(alignment, "wrong", wrong, texts),
        settings.side_weights(alignment, "repair", repair, texts),
        np.random.default_rng([settings.reference_seed, *place, *wrong]),
    )


@dataclass(frozen=True)
class Member:
    """A row of the update with its tokens and their weights, `(T,)`."""

    row: int
    """Index of the rollout whose prompt it answers, among those that the caller holds."""
    token_ids: Sequence[int]
    weights: FloatArray
    advantage: float
    is_repair: bool


@dataclass(frozen=True)
class GroupRow:
    """A row of the update: a rollout, or where `is_repair` the repair of it."""

    rollout: int
    is_repair: bool
    weight: float | None
    """Of all its tokens; None: they have those of the pair."""
    advantage: float

    def member(self, answer: Sequence[int], pair: WeightedPair | None) -> Member:
        """The row with its tokens: `answer` are those of its rollout, `pair` the rollout's pair, where it has one."""
        ids = pair.repair.token_ids if self.is_repair and pair else answer
        if self.weight is not None:
            weights = np.full(len(ids), self.weight, np.float32)
        else:
            assert pair is not None
            weights = pair.weights.repair if self.is_repair else pair.weights.wrong
        return Member(self.rollout, ids, weights, self.advantage, self.is_repair)


def group_rows(
    rewards: Rewards, repair_rewards: Mapping[int, float | None], settings: PairSettings, scale: bool = True
) -> list[GroupRow]:
    """The rows of one prompt in the update, each wrong answer followed by its repair. [DF, Eqs. 14-18, 26]

    With `regroup` they are `G' = Y⁻ ∪ Ỹ`. Without it, and with a critic, they are all judged answers and no repair:
    right ones have weights of one, repaired ones the pair's, and wrong ones without a repair go by `empty_feasible`:
    weights of 0 ("drop") or 1 ("broadcast"). Where the settings make no pairs at all, every weight is one.

    Args:
        rewards: of the prompt's answers, `(G,)`.
        repair_rewards: reward of the chosen repair, by index of its wrong answer.
        scale: whether advantages are divided by the group's standard deviation.
    """
    if settings.regroup:
        group = pair_group(
            rewards,
            repair_rewards,
            settings.reward_threshold,
            empty_feasible=settings.empty_feasible,
            correct_rollouts=settings.correct_rollouts,
        )
        weights = [None if has_mask else 1.0 for has_mask in group.has_mask.tolist()]
        columns = group.rollout.tolist(), group.is_repair.tolist(), weights, group.advantages(scale=scale).tolist()
        return [GroupRow(*row) for row in zip(*columns, strict=True)]
    split = split_by_reward(rewards, settings.reward_threshold)
    advantages = group_advantages(rewards, np.zeros(len(rewards), np.int64), scale=scale)
    unrepaired = float(settings.empty_feasible == "broadcast" or not settings.makes_pairs)
    weight_of = dict.fromkeys(split.correct.tolist(), 1.0) | {
        i: None if i in repair_rewards else unrepaired for i in split.wrong.tolist()
    }
    return [GroupRow(i, False, weight_of[i], float(advantages[i])) for i in sorted(weight_of)]


class PromptPairs(NamedTuple):
    """The rows of one prompt in the update, and its pairs by wrong answer."""

    members: list[Member]
    pairs: dict[int, WeightedPair]


def pair_prompt(
    answers: Sequence[Answer],
    references: References,
    candidates: Mapping[int, Sequence[Answer]],
    settings: PairSettings,
    texts: TokenTexts,
    place: Sequence[int] = (),
) -> PromptPairs:
    """Choose among the candidates, weigh, and build the group of one prompt: all steps after the references.

    Where the prompt has no references, it has no pairs, and with `regroup` no rows.

    Args:
        candidates: graded repairs by index of the wrong answer. With `sibling_repairs` the right siblings are added.
        texts: the text of each token id, for weights by step.
        place: numbers that say where in the run the prompt stands.
    """
    rewards = [answer.reward for answer in answers]
    right = split_by_reward(rewards, settings.reward_threshold).correct
    siblings = [answers[i] for i in right] if settings.sibling_repairs else []
    pairs = {}
    for i in references.texts:
        pair = choose_pair(answers[i].token_ids, [*candidates.get(i, ()), *siblings], (*place, i), settings, texts)
        if pair is not None:
            pairs[i] = pair
    if settings.regroup and references.skipped is not None:
        return PromptPairs([], pairs)
    repair_rewards = {i: pair.repair.reward for i, pair in pairs.items()}
    rows = group_rows(rewards, repair_rewards, settings)
    return PromptPairs([row.member(answers[row.rollout].token_ids, pairs.get(row.rollout)) for row in rows], pairs)
