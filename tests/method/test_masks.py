"""Token, step and soft weights, and padding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method.alignment import align
from difference_feedback.method.masks import pad_weights, root_cause_mask, step_ids, token_weights
from difference_feedback.method.token_texts import token_texts

small = st.lists(st.integers(0, 3), max_size=12)


def test_token_weights_are_the_masks():
    alignment = align([1, 2, 3], [1, 9, 3, 4])
    np.testing.assert_array_equal(token_weights(alignment), np.float32([0, 1, 1]))
    np.testing.assert_array_equal(token_weights(alignment, "repair"), np.float32([0, 1, 0, 1]))
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
    weights = token_weights(alignment, "repair", "step", steps)
    np.testing.assert_array_equal(weights, np.float32([step in touched for step in steps]))


def test_identical_and_empty_pairs_weigh_nothing():
    assert not token_weights(align([1, 2], [1, 2]), sigma=1.0).any()
    assert token_weights(align([], [1]), sigma=1.0, granularity="step", steps=[]).shape == (0,)


# Read 9 + 8 for 5 + 8: the sum 17 follows correctly, and so does what is made of it. "," is 0, "+" is 1, "=" is 2.
MISREAD, REPAIRED = [9, 1, 8, 2, 17, 0, 17, 1, 1, 2, 18], [5, 1, 8, 2, 13, 0, 13, 1, 1, 2, 14]


def test_root_cause_keeps_the_first_span_of_the_wrong_side_and_all_of_the_repair():
    alignment = align(MISREAD, REPAIRED)
    everything = np.float32([1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1])
    first = np.float32([1] + [0] * 10)
    np.testing.assert_array_equal(token_weights(alignment), everything)  # off by default
    np.testing.assert_array_equal(token_weights(alignment, root_cause=True), first)
    np.testing.assert_array_equal(token_weights(alignment, "repair", root_cause=True), everything)


def test_root_cause_comes_before_steps_and_softness():
    alignment = align(MISREAD, REPAIRED)
    steps = [0] * 6 + [1] * 5
    by_step = token_weights(alignment, granularity="step", steps=steps, root_cause=True)
    np.testing.assert_array_equal(by_step, np.float32([1] * 6 + [0] * 5))
    soft = token_weights(alignment, sigma=2.0, root_cause=True)
    np.testing.assert_allclose(soft, np.exp(-np.arange(11) / 2), rtol=1e-6)


@pytest.mark.parametrize(
    ("source", "target", "anchor_gaps", "expected"),
    [
        ([1, 2, 3, 4, 5], [1, 8, 9, 4, 6], True, [0, 1, 1, 0, 0]),  # a span of several tokens
        ([1, 2, 3], [7, 8, 9], True, [1, 1, 1]),  # nothing in common: one span
        ([1, 2, 3, 4], [1, 9, 2, 3, 8], True, [0, 1, 0, 0]),  # first a gap: its anchor
        ([1, 2, 3, 4], [1, 9, 2, 8, 4], True, [0, 1, 0, 0]),  # a span right after the anchor is not part of it
        ([1, 7, 2], [1, 8, 2, 3], True, [0, 1, 0]),  # an anchor right after a span is not part of it
        ([1, 2], [1, 2, 3], True, [0, 1]),  # something is missing at the end
        ([1, 2, 3, 4], [1, 9, 2, 3, 8], False, [0, 0, 0, 1]),  # without anchors: the first span that marks something
        ([1, 2], [1, 2, 3], False, [0, 0]),
        ([1, 2], [1, 2], True, [0, 0]),
        ([], [1], True, []),
        ([1, 2], [], True, [1, 1]),
    ],
)
def test_root_cause_literal(source, target, anchor_gaps, expected):
    alignment = align(source, target, anchor_gaps=anchor_gaps)
    assert root_cause_mask(alignment).astype(int).tolist() == expected


def root_cause_oracle(alignment):
    """Walk along the path, match by match, and stop after the first span that marks a source token."""
    edits, i, j, n, m = list(alignment.edits), 0, 0, len(alignment.source), len(alignment.target)
    while i < n or j < m or edits:
        span, inserted = set(), False
        while edits and (edits[0].source, edits[0].target) == (i, j):
            op = edits.pop(0).op
            span |= {i} if op != "insert" else set()
            inserted |= op != "delete"
            i, j = i + (op != "insert"), j + (op != "delete")
        if not span and inserted and alignment.anchor_gaps and n:
            span = {min(i, n - 1)}
        if span:
            return [t in span for t in range(n)]
        i, j = i + 1, j + 1  # a match
    return [False] * n


@given(source=small, target=small, method=st.sampled_from(["levenshtein", "lcs"]), anchor_gaps=st.booleans())
def test_root_cause_against_a_walk_along_the_path(source, target, method, anchor_gaps):
    alignment = align(source, target, method, anchor_gaps)
    mask = root_cause_mask(alignment)
    assert mask.tolist() == root_cause_oracle(alignment)
    assert not (mask & ~alignment.source_mask).any()
    assert mask.any() == alignment.source_mask.any()
    np.testing.assert_array_equal(token_weights(alignment, root_cause=True), mask)
    np.testing.assert_array_equal(token_weights(alignment, "repair", root_cause=True), alignment.target_mask)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"granularity": "step"}, DataError, "`steps` is missing"),
        ({"granularity": "step", "steps": [0]}, DataError, r"shape \(1,\), but the wrong side has 2 tokens"),
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


def test_tokens_of_sentencepiece_keep_their_blanks_and_so_the_steps_their_ends():
    """A tokenizer of the Llama 2 kind, which decodes a token by itself without the blank before it."""
    pieces = ["<unk>", "▁", "▁It", "▁is", "▁3", ".", "▁So", "▁the", "▁sum", "5"]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    ids = [2, 3, 4, 5, 6, 7, 8, 3, 4, 5, 9, 5]
    assert tokenizer.decode([3]) == "is"
    texts = token_texts(tokenizer)(ids)
    assert "".join(texts) == tokenizer.decode(ids) == "It is 3. So the sum is 3.5."
    assert step_ids(texts).tolist() == [0] * 4 + [1] * 8
    assert token_texts(tokenizer)([]) == []
