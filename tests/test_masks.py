"""Token, step and soft weights, and padding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from difference_feedback.alignment import align
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.masks import pad_weights, step_ids, token_weights

small = st.lists(st.integers(0, 3), max_size=12)


def test_token_weights_are_the_masks():
    alignment = align([1, 2, 3], [1, 9, 3, 4])
    np.testing.assert_array_equal(token_weights(alignment), np.float32([0, 1, 1]))
    np.testing.assert_array_equal(token_weights(alignment, "target"), np.float32([0, 1, 0, 1]))
    assert token_weights(alignment).dtype == np.float32


def test_step_weights_mark_whole_steps():
    alignment = align([1, 2, 3, 4, 5], [1, 9, 3, 4, 5])
    weights = token_weights(alignment, granularity="step", steps=[0, 0, 0, 1, 1])
    np.testing.assert_array_equal(weights, np.float32([1, 1, 1, 0, 0]))


def test_soft_weights_fall_off_with_distance():
    alignment = align([1, 2, 3, 4, 5], [1, 2, 9, 4, 5])
    weights = token_weights(alignment, sigma=2.0)
    np.testing.assert_allclose(weights, np.exp(-np.array([2, 1, 0, 1, 2]) / 2), rtol=1e-6)
    assert weights[2] == 1


@given(source=small, target=small, sigma=st.floats(0.1, 10))
def test_soft_weights_against_a_plain_loop(source, target, sigma):
    alignment = align(source, target)
    marked = np.flatnonzero(alignment.source_mask)
    expected = [max((np.exp(-abs(t - m) / sigma) for m in marked), default=0.0) for t in range(len(source))]
    weights = token_weights(alignment, sigma=sigma)
    np.testing.assert_allclose(weights, np.float32(expected), rtol=1e-5, atol=1e-12)
    assert weights.dtype == np.float32


@given(source=small, target=small, data=st.data())
def test_step_weights_against_a_plain_loop(source, target, data):
    alignment = align(source, target)
    steps = data.draw(st.lists(st.integers(0, 3), min_size=len(target), max_size=len(target)))
    touched = {step for step, marked in zip(steps, alignment.target_mask, strict=True) if marked}
    weights = token_weights(alignment, "target", "step", steps)
    np.testing.assert_array_equal(weights, np.float32([step in touched for step in steps]))


def test_identical_and_empty_pairs_weigh_nothing():
    assert not token_weights(align([1, 2], [1, 2]), sigma=1.0).any()
    assert token_weights(align([], [1]), sigma=1.0, granularity="step", steps=[]).shape == (0,)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"granularity": "step"}, DataError, "needs `steps`"),
        ({"granularity": "step", "steps": [0]}, DataError, r"shape \(1,\); the source has 2 tokens"),
        ({"granularity": "line"}, ConfigError, "granularity is 'line'"),
        ({"side": "left"}, ConfigError, "side is 'left'"),
        ({"sigma": 0.0}, ConfigError, "sigma is 0.0"),
        ({"sigma": float("nan")}, ConfigError, "sigma is nan"),
    ],
)
def test_wrong_options_are_named(options, error, message):
    with pytest.raises(error, match=message):
        token_weights(align([1, 2], [1, 3]), **options)


def test_steps_end_at_sentence_ends_and_line_breaks():
    texts = ["3", " plus", " 8", " is", " 3.5", " .", " So", "\n", "\n\n", "next", ".\n", "  ", "答", "。", "完"]
    np.testing.assert_array_equal(step_ids(texts), [0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4])
    assert step_ids([]).shape == (0,)


@given(st.lists(st.text(alphabet="a. \n。!)", max_size=3), max_size=15))
def test_step_ids_never_go_down_and_do_not_depend_on_how_the_text_is_cut_into_tokens(texts):
    steps = step_ids(texts)
    assert (np.diff(steps) >= 0).all()
    text = "".join(texts)
    by_character = step_ids(list(text))
    start = 0
    for token, step in zip(texts, steps, strict=True):
        first = start + len(token) - len(token.lstrip())
        if token.strip():
            assert step == by_character[first]
        start += len(token)


def test_padding_is_on_the_right():
    batch = pad_weights([np.float32([1, 0.5]), [], [1]], length=3, fill=0.25)
    np.testing.assert_array_equal(batch, np.float32([[1, 0.5, 0.25], [0.25, 0.25, 0.25], [1, 0.25, 0.25]]))
    assert batch.dtype == np.float32


def test_padding_without_length_takes_the_longest_row():
    assert pad_weights([[1], [1, 1, 1]]).shape == (2, 3)
    assert pad_weights([]).shape == (0, 0)
    assert pad_weights([], length=4).shape == (0, 4)


def test_a_row_longer_than_the_batch_is_named():
    with pytest.raises(DataError, match="row 1 has 3 weights, more than length=2"):
        pad_weights([[1], [1, 1, 1]], length=2)
