"""Split a prompt's rollouts by reward and build the group that is optimised instead. [DF, Eqs. 11-18]"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method.alignment import BoolArray, IntArray

Rewards: TypeAlias = Sequence[float | None] | npt.NDArray[np.floating]
EmptyFeasible = Literal["drop", "broadcast"]
CorrectRollouts = Literal["leave", "keep"]
TOLERANCE = 1e-6
"""Relative to the threshold, or absolute where that is more. TRL's rewards are float32, in which 0.9 is less than the
0.9 of a threshold, and weights such as 0.7 + 0.2 + 0.1 need not reach 1."""


class SkipReason(StrEnum):
    """Why a prompt, or one of its wrong rollouts, brings no pair into the update."""

    NO_REFERENCE = "no_reference"  # no correct rollout, and no annotated answer
    NO_WRONG_ANSWER = "no_wrong_answer"  # nothing to repair
    NO_FEASIBLE_REPAIR = "no_feasible_repair"  # no candidate repair was right
    UNJUDGED = "unjudged"  # the reward is missing or not finite


class Split(NamedTuple):
    """Indices of a prompt's rollouts, ascending, by outcome: `Y⁺`, `Y⁻`, and the unjudged ones."""

    correct: IntArray
    wrong: IntArray
    unjudged: IntArray


def least_right(threshold: float) -> float:
    """The smallest reward that counts as right: the threshold, but for rounding. All comparisons are with this."""
    return threshold - TOLERANCE * max(1.0, abs(threshold))


def split_by_reward(rewards: Rewards, threshold: float = 1.0) -> Split:
    """Split the rollouts of one prompt at `R >= threshold`, but for rounding. [DF, Eqs. 11-12]

    A reward that is None, NaN or infinite is no verdict: such a rollout is neither right nor wrong.
    """
    values = _as_floats(rewards)
    judged = np.isfinite(values)
    correct = judged & (values >= least_right(threshold))
    return Split(np.flatnonzero(correct), np.flatnonzero(judged & ~correct), np.flatnonzero(~judged))


def skip_reason(split: Split, annotated: bool = False) -> SkipReason | None:
    """Why this prompt has nothing to repair, or None when it has. `annotated`: its data holds a reference answer."""
    if len(split.wrong) == 0:
        return SkipReason.UNJUDGED if len(split.correct) == 0 and len(split.unjudged) else SkipReason.NO_WRONG_ANSWER
    if len(split.correct) == 0 and not annotated:
        return SkipReason.NO_REFERENCE
    return None


def choose_reference(split: Split, rng: np.random.Generator) -> int:
    """Draw the index of a correct rollout, uniformly, to be the reference of one repair. [DF, Eq. 13]

    Raises:
        DataError: no rollout is correct.
    """
    if len(split.correct) == 0:
        raise DataError("no rollout of this prompt is correct; use its annotated answer, or skip it (see skip_reason)")
    return int(rng.choice(split.correct))


@dataclass(frozen=True)
class PairGroup:
    """The optimisation group `G' = Y⁻ ∪ Ỹ`, row by row, a wrong rollout and then its repair. [DF, Eqs. 14-16]

    `rollout[i]` is the wrong rollout which row `i` is, or, where `is_repair[i]`, the one it repairs. A row without an
    edit mask (`has_mask[i]` is False) has weights of 1. `skipped` names the rollouts left out and why; correct
    rollouts that leave by design are not listed; those that are kept come last. All arrays are `(M,)`.
    """

    rollout: IntArray
    is_repair: BoolArray
    rewards: npt.NDArray[np.float64]
    has_mask: BoolArray
    skipped: dict[int, SkipReason] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rollout)

    def advantages(self, eps: float = 1e-4, scale: bool = True) -> npt.NDArray[np.float64]:
        """`Â_i`, `(M,)`: rewards normalised over `G'` itself. [DF, Eq. 17-18]"""
        return group_advantages(self.rewards, np.zeros(len(self), np.int64), eps, scale)

    def shaped(self, penalty: Sequence[float] | npt.NDArray[np.floating]) -> "PairGroup":
        """The group with `penalty`, `(M,)`, added to its rewards, such as `overlong_penalty` of the rows' lengths.

        Shaping comes after the split: a right answer that is merely long must not count as wrong and be repaired.

        Raises:
            DataError: not one number for each row.
        """
        added = _as_floats(penalty)
        if added.shape != self.rewards.shape:
            raise DataError(f"penalty has shape {added.shape}; the group has {len(self)} rows, give a number for each")
        return replace(self, rewards=self.rewards + added)


def pair_group(
    rewards: Rewards,
    repair_rewards: Mapping[int, float | None],
    threshold: float = 1.0,
    empty_feasible: EmptyFeasible = "drop",
    correct_rollouts: CorrectRollouts = "leave",
) -> PairGroup:
    """Build `G'` from the rewards of one prompt's rollouts and of the repairs chosen for its wrong ones. [DF, Eq. 16]

    Args:
        rewards: reward of each rollout, `(G,)`.
        repair_rewards: by index of the wrong rollout, the reward of its repair. A rollout that is absent, or whose
            repair is unjudged or below `threshold`, has no feasible repair.
        empty_feasible: what happens to a wrong rollout without a feasible repair (our decision). "drop" it: nothing
            says which of its tokens were wrong, and the method is there to avoid blaming all alike. "broadcast": keep
            it alone, with weights of one, as plain GRPO would, so that answers too hard for the repair model still
            push the policy. Where no repair of a prompt succeeded, its rewards of 0 have no spread and push nowhere.
        correct_rollouts: "leave", as in the paper. "keep" them, with weights of one, beside the pairs (ours): they hold
            what the policy can do already, as Eq. 26 does for PPO. Without another row they leave, since rewards of 1
            alone push nowhere. With `empty_feasible="broadcast"` a prompt without a feasible repair is then plain GRPO.

    Raises:
        DataError: a repair is given for a rollout that is not a wrong one.
        ConfigError: an unknown `empty_feasible`.
    """
    if empty_feasible not in get_args(EmptyFeasible):
        raise ConfigError(f'empty_feasible is {empty_feasible!r}; choose "drop" or "broadcast"')
    if correct_rollouts not in get_args(CorrectRollouts):
        raise ConfigError(f'correct_rollouts is {correct_rollouts!r}; choose "leave" or "keep"')
    values = _as_floats(rewards)
    split = split_by_reward(values, threshold)
    stray = sorted(set(repair_rewards) - set(split.wrong.tolist()))
    if stray:
        raise DataError(
            f"rollouts {stray} have a repair and are not wrong; repair only those of split_by_reward(...).wrong"
        )
    skipped = {int(i): SkipReason.UNJUDGED for i in split.unjudged}
    rows: list[tuple[int, bool, float, bool]] = []
    for i in split.wrong.tolist():
        repair_reward = repair_rewards.get(i)
        if repair_reward is not None and np.isfinite(repair_reward) and repair_reward >= least_right(threshold):
            rows += [(i, False, float(values[i]), True), (i, True, float(repair_reward), True)]
        elif empty_feasible == "broadcast":
            rows.append((i, False, float(values[i]), False))
        else:
            skipped[i] = SkipReason.NO_FEASIBLE_REPAIR
    if correct_rollouts == "keep" and rows:
        rows += [(i, False, float(values[i]), False) for i in split.correct.tolist()]
    rollout, is_repair, row_rewards, has_mask = zip(*rows, strict=True) if rows else ((), (), (), ())
    return PairGroup(
        np.array(rollout, np.int64), np.array(is_repair, bool), np.array(row_rewards), np.array(has_mask, bool), skipped
    )


def group_advantages(
    rewards: Rewards, group_ids: Sequence[int] | IntArray, eps: float = 1e-4, scale: bool = True
) -> npt.NDArray[np.float64]:
    """`Â_i = (R_i - mean) / (std + eps)` within each group, `(B,)`. [DF, Eqs. 17-18]

    The standard deviation has Bessel's correction, as TRL's has: one pair with rewards 0 and 1 gets ∓0.707. With
    `scale=False` (as in Dr. GRPO) only the mean is subtracted. Rewards that are None, NaN or infinite are left out of
    mean and deviation and get advantage 0, as does a group of one.

    Raises:
        DataError: `rewards` and `group_ids` differ in length.
    """
    values, groups = _as_floats(rewards), np.asarray(group_ids)
    if values.shape != groups.shape:
        raise DataError(f"rewards has shape {values.shape}, group_ids {groups.shape}; give each reward its group")
    advantages = np.zeros_like(values)
    judged = np.isfinite(values)
    for group in np.unique(groups[judged]):
        members = judged & (groups == group)
        if members.sum() > 1:
            centred = values[members] - values[members].mean()
            advantages[members] = centred / (values[members].std(ddof=1) + eps) if scale else centred
    return advantages


class Sampled(NamedTuple):
    """What dynamic sampling keeps: prompts' indices, why others were left out, and how many are still missing."""

    kept: IntArray
    skipped: dict[int, SkipReason]
    missing: int


def dynamic_sampling(
    rewards: Sequence[Rewards],
    wanted: int | None = None,
    threshold: float = 1.0,
    annotated: bool | Sequence[bool] = False,
) -> Sampled:
    """Keep prompts that have something to learn from: `0 < |Y⁺| < G`. [DAPO, arXiv 2503.14476, Eq. 11]

    A group that is all right or all wrong has advantages of 0; it takes up room in the batch and shrinks its gradient.
    Sample more prompts, and pass all so far, until `missing` is 0. A prompt is kept if it has a wrong answer and a
    reference. With an annotated answer this includes a prompt that nobody solved: its repairs bring in right answers.

    Args:
        rewards: of each prompt, the rewards of its rollouts, in the order of sampling.
        wanted: prompts in a full batch; those beyond it are left in neither list. None: keep all there are.
        threshold: `τ`.
        annotated: whether the data hold a reference answer, for all prompts or one by one.

    Raises:
        DataError: `annotated` and `rewards` differ in length.
    """
    has_answer = [annotated] * len(rewards) if isinstance(annotated, bool) else list(annotated)
    if len(has_answer) != len(rewards):
        raise DataError(f"annotated has {len(has_answer)} entries for {len(rewards)} prompts; give one for each")
    splits = [split_by_reward(of_prompt, threshold) for of_prompt in rewards]
    reasons = [skip_reason(split, has) for split, has in zip(splits, has_answer, strict=True)]
    kept = np.array([i for i, reason in enumerate(reasons) if reason is None], np.int64)[:wanted]
    skipped = {i: reason for i, reason in enumerate(reasons) if reason is not None}
    return Sampled(kept, skipped, 0 if wanted is None else wanted - len(kept))


def overlong_penalty(lengths: Sequence[int] | IntArray, max_length: int, buffer: int) -> npt.NDArray[np.float64]:
    """Soft punishment of answers near the length limit, `(B,)`, to add to rewards. [DAPO, arXiv 2503.14476, Eq. 13]

    0 up to `max_length - buffer` tokens, then falling evenly to -1 at `max_length`, and -1 beyond. A cut-off answer is
    not simply wrong, and rewards that jump at the limit are noise.

    Args:
        lengths: of the answers in tokens, `(B,)`.
        max_length: `L_max`, the length at which the penalty is -1.
        buffer: `L_cache`, over how many tokens it falls.

    Raises:
        ConfigError: a buffer that is not from 1 to `max_length`.
    """
    if not 0 < buffer <= max_length:
        raise ConfigError(f"buffer is {buffer} and max_length {max_length}; use a buffer from 1 to max_length")
    return np.clip((max_length - buffer - np.asarray(lengths, np.float64)) / buffer, -1.0, 0.0)


def _as_floats(rewards: Rewards) -> npt.NDArray[np.float64]:
    """Rewards as `(B,)` floats, None becoming NaN."""
    try:
        values = np.array(rewards, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"rewards are {rewards!r}; give one number or None for each rollout") from None
    if values.ndim != 1:
        raise DataError(f"rewards have shape {values.shape}; give one row, a number or None for each rollout")
    return values
