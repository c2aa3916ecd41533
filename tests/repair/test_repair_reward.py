"""Eq. 4, value by value, and as TRL calls it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.repair.reward import edit_costs, repair_reward, repair_reward_function


def test_literal_values():
    reward = repair_reward([1.0, 1.0, 0.0, 0.0], [0.0, 0.25, 0.25, 1.0], lam=0.5)
    np.testing.assert_allclose(reward, [1.0, 0.875, -0.125, -0.5])


def test_the_factors_multiply_the_reward():
    reward = repair_reward([1.0, 1.0, 0.0], [0.5, 0.5, 0.5], lam=0.5, factors=[[1, 0, 1], [1, 1, 0.5]])
    np.testing.assert_allclose(reward, [0.75, 0.0, -0.125])


def test_no_price_no_charge():
    np.testing.assert_array_equal(repair_reward([1.0, 0.0], [0.3, 0.9], lam=0), [1.0, 0.0])


def test_a_negative_price_is_an_error():
    with pytest.raises(ConfigError, match="lam is -1"):
        repair_reward([1.0], [0.0], lam=-1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.floats(0, 2))
def test_fewer_edits_are_never_worth_less(costs, lam):
    rewards = repair_reward(np.ones(len(costs)), sorted(costs), lam)
    assert (np.diff(rewards) <= 0).all()


def test_edit_costs_count_tokens():
    drafts = [[5, 6, 7, 2], [5, 6, 7, 2], [5, 6, 7, 2], []]
    repairs = [[5, 6, 7, 2], [5, 9, 7, 2], [5, 6, 7, 8, 2], []]
    np.testing.assert_allclose(edit_costs(drafts, repairs), [0, 1 / 4, 1 / 5, 0])


def graded(**columns):
    return [float(r) if r is not None else None for r in columns["verdict"]]


def test_as_a_reward_function_of_trl_with_its_components_logged():
    logged = {}

    def shut_the_last(*, completions, draft_ids, **_):
        return [1.0] * (len(completions) - 1) + [0.0]

    reward = repair_reward_function(graded, lam=0.5, factors={"audit": shut_the_last})
    values = reward(
        prompts=[[]] * 3,
        completions=[[]] * 3,
        completion_ids=[[5, 9, 2], [5, 6, 2], [5, 6, 2]],
        draft_ids=[[5, 6, 2]] * 3,
        verdict=[1, 0, 1],
        log_metric=lambda name, value: logged.update({name: value}),
    )
    assert values == pytest.approx([1 - 0.5 / 3, 0.0, 0.0])
    components = {"repair/correct": 2 / 3, "repair/edit_cost": 1 / 9, "repair/factor_audit": 2 / 3}
    assert logged == pytest.approx(components | {"repair/reward_without_factors": 2 / 3 - 0.5 / 9})


def test_an_unjudged_repair_has_no_reward():
    reward = repair_reward_function(graded)
    values = reward(
        prompts=[[]] * 2, completions=[[]] * 2, completion_ids=[[1], [1]], draft_ids=[[1]] * 2, verdict=[None, 1]
    )
    assert values == [None, 1.0]


def test_a_data_set_without_drafts_is_an_error():
    with pytest.raises(DataError, match="draft_ids"):
        repair_reward_function(graded)(prompts=[[]], completions=[[]], completion_ids=[[1]], verdict=[1])
