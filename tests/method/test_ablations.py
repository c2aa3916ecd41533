"""Mask ablations: what each keeps and what it changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from difference_feedback.errors import ConfigError
from difference_feedback.method.ablations import ABLATIONS, ablated_weights

SIDES = hnp.arrays(np.float32, st.integers(0, 12), elements=st.floats(0, 1, width=16))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(SIDES, SIDES, st.sampled_from(sorted(ABLATIONS)))
def test_shapes_and_bounds_are_kept_and_the_same_seed_draws_the_same(
    wrong: np.ndarray, repair: np.ndarray, name: str
) -> None:
    before = wrong.copy(), repair.copy()
    ablated = ablated_weights(name, wrong, repair, rng())
    for given_side, side, again in zip(before, ablated, ablated_weights(name, wrong, repair, rng()), strict=True):
        assert side.shape == given_side.shape
        assert side.dtype == np.float32
        assert np.all((side >= 0) & (side <= 1))
        np.testing.assert_array_equal(side, again)
    np.testing.assert_array_equal(wrong, before[0])
    np.testing.assert_array_equal(repair, before[1])


@given(SIDES, SIDES)
def test_random_tokens_keep_the_density(wrong: np.ndarray, repair: np.ndarray) -> None:
    ablated = ablated_weights("random", wrong, repair, rng())
    np.testing.assert_array_equal(np.sort(ablated.wrong), np.sort(wrong))
    np.testing.assert_array_equal(np.sort(ablated.repair), np.sort(repair))


def test_random_tokens_are_drawn_evenly() -> None:
    mask = np.array([1, 1, 0, 0, 0, 0, 0, 0], np.float32)
    share = np.mean([ablated_weights("random", mask, mask, rng(seed)).wrong for seed in range(2000)], axis=0)
    np.testing.assert_allclose(share, 0.25, atol=0.04)


@given(SIDES, SIDES)
def test_inverted_twice_is_the_mask(wrong: np.ndarray, repair: np.ndarray) -> None:
    once = ablated_weights("inverted", wrong, repair, rng())
    twice = ablated_weights("inverted", *once, rng())
    np.testing.assert_allclose(twice.wrong, wrong, atol=1e-6)
    np.testing.assert_allclose(once.wrong + wrong, 1, atol=1e-6)
    np.testing.assert_allclose(twice.repair, repair, atol=1e-6)


@given(SIDES, SIDES)
def test_one_side_is_left_as_it_is_and_the_other_is_silent(wrong: np.ndarray, repair: np.ndarray) -> None:
    first = ablated_weights("wrong_only", wrong, repair, rng())
    np.testing.assert_array_equal(first.wrong, wrong)
    assert not first.repair.any()
    second = ablated_weights("repair_only", wrong, repair, rng())
    assert not second.wrong.any()
    np.testing.assert_array_equal(second.repair, repair)


def test_the_mask_is_no_control_and_unknown_ones_are_refused() -> None:
    mask = np.array([1, 0], np.float32)
    ablated = ablated_weights("mask", mask, mask, rng())
    assert ablated.wrong is mask
    with pytest.raises(ConfigError, match="inverted"):
        ablated_weights("invert", mask, mask, rng())
