"""Splitting by reward, drawing references, building G', and its advantages."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method.groups import (
    SkipReason,
    choose_reference,
    dynamic_sampling,
    group_advantages,
    overlong_penalty,
    pair_group,
    skip_reason,
    split_by_reward,
)
from difference_feedback.method.selection import feasible_candidates

NAN, INF = float("nan"), float("inf")


def test_split_literal():
    split = split_by_reward([1.0, 0.0, None, NAN, 2, INF, -INF, 0.99])
    assert [x.tolist() for x in split] == [[0, 4], [1, 7], [2, 3, 5, 6]]


def test_split_uses_the_threshold():
    split = split_by_reward([0.4, 0.5, 0.6], threshold=0.5)
    assert [x.tolist() for x in split] == [[1, 2], [0], []]


@pytest.mark.parametrize("threshold", [0.9, 0.7, 1.0, 0.0, -0.9, 1e8 / 3])
def test_rounding_makes_no_right_answer_wrong(threshold):
    """TRL's rewards are float32."""
    almost = threshold - 1e-5 * max(1.0, abs(threshold))
    rewards = [float(np.float32(threshold)), threshold, almost]
    assert split_by_reward(rewards, threshold).correct.tolist() == [0, 1]
    group = pair_group([almost], {0: float(np.float32(threshold))}, threshold)
    assert len(group) == 2
    assert feasible_candidates(rewards, threshold) == [0, 1]


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, None, NAN, INF]), max_size=20))
def test_split_is_a_partition(rewards):
    split = split_by_reward(rewards)
    assert sorted(np.concatenate(split).tolist()) == list(range(len(rewards)))


@pytest.mark.parametrize(
    ("rewards", "annotated", "reason"),
    [
        ([1, 0], False, None),
        ([1, 1], False, SkipReason.NO_WRONG_ANSWER),
        ([0, 0], False, SkipReason.NO_REFERENCE),
        ([0, 0], True, None),
        ([0, None], False, SkipReason.NO_REFERENCE),
        ([None, NAN], True, SkipReason.UNJUDGED),
        ([1, None], False, SkipReason.NO_WRONG_ANSWER),
        ([], False, SkipReason.NO_WRONG_ANSWER),
    ],
)
def test_skip_reasons(rewards, annotated, reason):
    assert skip_reason(split_by_reward(rewards), annotated) == reason


def test_references_are_drawn_uniformly_among_the_correct():
    split = split_by_reward([1, 0, 1, 1, 0])
    rng = np.random.default_rng(0)
    drawn = np.bincount([choose_reference(split, rng) for _ in range(3000)], minlength=5)
    assert drawn[1] == drawn[4] == 0
    np.testing.assert_allclose(drawn[[0, 2, 3]] / 3000, 1 / 3, atol=0.03)
    again = np.random.default_rng(0)
    assert [choose_reference(split, again) for _ in range(5)] == [
        choose_reference(split, rng) for rng in [np.random.default_rng(0)] for _ in range(5)
    ]


def test_no_reference_to_draw_is_an_error():
    with pytest.raises(DataError, match="annotated answer"):
        choose_reference(split_by_reward([0, 0]), np.random.default_rng(0))


def test_correct_rollouts_leave_and_repairs_enter():
    group = pair_group([1, 0, 0.5, 1], {1: 1.0, 2: 1.5})
    assert group.rollout.tolist() == [1, 1, 2, 2]
    assert group.is_repair.tolist() == [False, True, False, True]
    assert group.rewards.tolist() == [0, 1, 0.5, 1.5]
    assert group.has_mask.all()
    assert group.skipped == {}


def test_rollouts_without_a_feasible_repair_are_dropped_with_their_reason():
    group = pair_group([0, 0, 0, None, 1, 0], {0: 1.0, 1: None, 2: 0.0, 5: NAN})
    assert group.rollout.tolist() == [0, 0]
    missing = SkipReason.NO_FEASIBLE_REPAIR
    assert group.skipped == {1: missing, 2: missing, 3: SkipReason.UNJUDGED, 5: missing}


def test_broadcast_keeps_them_alone_with_weights_of_one():
    group = pair_group([0, 0, None], {0: 1.0}, empty_feasible="broadcast")
    assert group.rollout.tolist() == [0, 0, 1]
    assert group.is_repair.tolist() == [False, True, False]
    assert group.has_mask.tolist() == [True, True, False]
    assert group.skipped == {2: SkipReason.UNJUDGED}


def test_correct_rollouts_can_stay_beside_the_pairs():
    group = pair_group([1, 0, None, 1, 0], {1: 1.0}, correct_rollouts="keep")
    assert group.rollout.tolist() == [1, 1, 0, 3]
    assert group.is_repair.tolist() == [False, True, False, False]
    assert group.rewards.tolist() == [0, 1, 1, 1]
    assert group.has_mask.tolist() == [True, True, False, False]
    np.testing.assert_allclose(group.advantages(eps=0.0), [-1.5, 0.5, 0.5, 0.5])


def test_kept_and_broadcast_without_a_feasible_repair_is_the_original_group():
    rewards = [1, 0, 0, 1]
    group = pair_group(rewards, {}, empty_feasible="broadcast", correct_rollouts="keep")
    assert sorted(group.rollout.tolist()) == [0, 1, 2, 3]
    assert not group.has_mask.any()
    np.testing.assert_allclose(group.advantages(), group_advantages(rewards, [0] * 4)[group.rollout])


def test_correct_rollouts_alone_push_nowhere_and_leave():
    assert len(pair_group([1, 0, 1], {}, correct_rollouts="keep")) == 0


@given(
    st.lists(st.sampled_from([0.0, 1.0, None]), max_size=12),
    st.sampled_from(["drop", "broadcast"]),
    st.randoms(use_true_random=False),
)
def test_every_judged_wrong_rollout_is_in_the_group_or_listed(rewards, policy, random):
    wrong = split_by_reward(rewards).wrong.tolist()
    repairs = {i: random.choice([1.0, 0.0, None]) for i in wrong if random.random() < 0.8}
    group = pair_group(rewards, repairs, empty_feasible=policy)
    feasible = [i for i in wrong if repairs.get(i) == 1.0]
    assert group.rollout[group.is_repair].tolist() == feasible
    assert len(group) == 2 * len(feasible) + (len(wrong) - len(feasible)) * (policy == "broadcast")
    unjudged = [i for i, reward in enumerate(rewards) if reward is None]
    assert sorted({*group.rollout.tolist(), *group.skipped}) == sorted([*wrong, *unjudged])
    assert np.isfinite(group.advantages()).all()


@pytest.mark.parametrize("rewards", [[], [1, 1, 1], [None]])
def test_empty_and_full_groups_give_an_empty_group(rewards):
    group = pair_group(rewards, {})
    assert len(group) == 0
    assert group.advantages().shape == (0,)


def test_wrong_use_is_named():
    with pytest.raises(DataError, match=r"rollouts \[0\] .*repair only those of split_by_reward"):
        pair_group([1, 0], {0: 1.0})
    with pytest.raises(ConfigError, match='"drop" or "broadcast"'):
        pair_group([0], {}, empty_feasible="keep")
    with pytest.raises(ConfigError, match='"leave" or "keep"'):
        pair_group([0], {}, correct_rollouts="drop")
    with pytest.raises(DataError, match="one number or None"):
        split_by_reward(["a", "b"])
    with pytest.raises(DataError, match="one row"):
        split_by_reward(np.zeros((2, 2)))
    with pytest.raises(DataError, match="give each reward its group"):
        group_advantages([1.0], [0, 1])


def test_one_pair_alone_gets_plus_and_minus_0_707():
    np.testing.assert_allclose(pair_group([1, 0], {1: 1.0}).advantages(eps=0.0), [-(0.5**0.5), 0.5**0.5])


@given(st.lists(st.floats(-5, 5), min_size=8, max_size=8), st.booleans())
def test_advantages_against_torch(rewards, scale):
    groups = [0, 1, 0, 1, 0, 1, 0, 1]
    table = torch.tensor(rewards, dtype=torch.float64).view(4, 2)  # a column is a group
    expected = table - table.mean(0)
    if scale:
        expected = expected / (table.std(0) + 1e-4)
    np.testing.assert_allclose(group_advantages(rewards, groups, scale=scale), expected.flatten(), atol=1e-9)


def test_unjudged_rewards_and_groups_of_one_get_no_advantage():
    advantages = group_advantages([0.0, 1.0, NAN, None, INF, 5.0], [0, 0, 0, 0, 0, 1], eps=0.0)
    np.testing.assert_allclose(advantages, [-(0.5**0.5), 0.5**0.5, 0, 0, 0, 0])
    assert not group_advantages([1.0, 1.0, 1.0], [0, 0, 0]).any()


ROUNDS = [[1, 0], [1, 1], [0, 0], [0, 1], [None, 1], [None, None], [0.5, 1]]


def test_dynamic_sampling_literal():
    kept, skipped, missing = dynamic_sampling(ROUNDS)
    assert kept.tolist() == [0, 3, 6]
    assert skipped == {
        1: SkipReason.NO_WRONG_ANSWER,
        2: SkipReason.NO_REFERENCE,
        4: SkipReason.NO_WRONG_ANSWER,
        5: SkipReason.UNJUDGED,
    }
    assert missing == 0


def test_dynamic_sampling_stops_at_a_full_batch_and_says_what_is_missing():
    assert dynamic_sampling(ROUNDS, wanted=2).kept.tolist() == [0, 3]
    assert dynamic_sampling(ROUNDS, wanted=5).missing == 2
    assert dynamic_sampling(ROUNDS, threshold=0.5).kept.tolist() == [0, 3]
    assert dynamic_sampling([], wanted=3).missing == 3


def test_dynamic_sampling_keeps_unsolved_prompts_that_have_an_annotated_answer():
    assert dynamic_sampling(ROUNDS, annotated=True).kept.tolist() == [0, 2, 3, 6]
    assert dynamic_sampling(ROUNDS, annotated=[False, False, True, *[False] * 4]).kept.tolist() == [0, 2, 3, 6]
    with pytest.raises(DataError, match="annotated has 1 entries for 7 prompts"):
        dynamic_sampling(ROUNDS, annotated=[True])


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0]), max_size=5), max_size=6))
def test_dynamic_sampling_keeps_just_the_groups_with_advantages(rewards):
    kept = dynamic_sampling(rewards).kept
    spread = [group_advantages(of_prompt, [0] * len(of_prompt)).any() for of_prompt in rewards]
    assert kept.tolist() == np.flatnonzero(spread).tolist()


def test_overlong_penalty_literal():
    penalty = overlong_penalty([0, 12, 13, 14, 16, 99], max_length=16, buffer=4)
    assert penalty.tolist() == [0, 0, -0.25, -0.5, -1, -1]
    assert overlong_penalty(np.array([], int), 16, 16).shape == (0,)
    for buffer in (0, 17):
        with pytest.raises(ConfigError, match=f"buffer is {buffer} and max_length 16"):
            overlong_penalty([1], 16, buffer)


def test_shaping_comes_after_the_split():
    group = pair_group([0, 1, 0], {0: 1.0, 2: 1.0}).shaped(overlong_penalty([4, 8, 2, 7], 8, 4))
    assert group.rewards.tolist() == [0, 0, 0, 0.25]
    assert group.is_repair.tolist() == [False, True, False, True]  # 8 tokens: overlong, and right for all that
    np.testing.assert_allclose(group.advantages(eps=0.0), [-0.5, -0.5, -0.5, 1.5])
    with pytest.raises(DataError, match=r"penalty has shape \(3,\); the group has 4 rows"):
        group.shaped([0, 0, 0])
