"""Alignment against a plain dynamic programme, its laws as properties, and its masks as literal arrays."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method import alignment as alignment_module
from difference_feedback.method.alignment import Edit, align, edit_cost

METHODS = ("levenshtein", "lcs")
small = st.lists(st.integers(0, 3), max_size=12)  # few symbols: many ties
wide = st.lists(st.integers(0, 2**31 - 1), max_size=8)
sequences = small | wide


def distance_oracle(source, target, method):
    """The textbook O(nm) table: cell (i, j) is the distance of the first i and the first j tokens."""
    table = np.zeros((len(source) + 1, len(target) + 1), int)
    table[:, 0], table[0, :] = range(len(source) + 1), range(len(target) + 1)
    for i, x in enumerate(source, 1):
        for j, y in enumerate(target, 1):
            options = [table[i - 1, j] + 1, table[i, j - 1] + 1]
            if x == y:
                options.append(table[i - 1, j - 1])
            elif method == "levenshtein":
                options.append(table[i - 1, j - 1] + 1)
            table[i, j] = min(options)
    return table[-1, -1]


def masks_oracle(alignment):
    """Masks from the edits, one by one; then the anchors, by walking over the runs of edits between two matches."""
    n, m = len(alignment.source), len(alignment.target)
    source, target = [False] * n, [False] * m
    for op, i, j in alignment.edits:
        source[i : i + 1] = [True] if op != "insert" else source[i : i + 1]
        target[j : j + 1] = [True] if op != "delete" else target[j : j + 1]
    bare = list(source), list(target)
    if alignment.anchor_gaps:
        i = j = 0
        while i < n or j < m:
            start = i, j
            while i < n and bare[0][i]:
                i += 1
            while j < m and bare[1][j]:
                j += 1
            if i > start[0] and j == start[1] and m:
                target[min(j, m - 1)] = True
            if j > start[1] and i == start[0] and n:
                source[min(i, n - 1)] = True
            i, j = i + 1, j + 1  # the match that follows
    return source, target


def common_affixes(source, target):
    """Length of the common prefix, and of the common suffix of what remains."""
    n, m = len(source), len(target)
    prefix = 0
    while prefix < min(n, m) and source[prefix] == target[prefix]:
        prefix += 1
    suffix = 0
    while suffix < min(n, m) - prefix and source[n - 1 - suffix] == target[m - 1 - suffix]:
        suffix += 1
    return prefix, suffix


@pytest.mark.parametrize("method", METHODS)
@given(source=sequences, target=sequences)
def test_path_is_shortest_and_leads_to_the_target(method, source, target):
    alignment = align(source, target, method)
    assert alignment.distance == len(alignment.edits) == distance_oracle(source, target, method)
    assert alignment.apply().tolist() == target
    if method == "lcs":
        assert all(edit.op != "substitute" for edit in alignment.edits)


@pytest.mark.parametrize("anchor_gaps", [True, False])
@pytest.mark.parametrize("method", METHODS)
@given(source=small, target=small)
def test_masks_follow_from_the_edits(method, anchor_gaps, source, target):
    alignment = align(source, target, method, anchor_gaps)
    expected_source, expected_target = masks_oracle(alignment)
    assert alignment.source_mask.tolist() == expected_source
    assert alignment.target_mask.tolist() == expected_target


@pytest.mark.parametrize("method", METHODS)
@given(source=small, target=small)
def test_common_prefix_and_suffix_are_never_marked_without_anchors(method, source, target):
    alignment = align(source, target, method, anchor_gaps=False)
    prefix, suffix = common_affixes(source, target)
    for mask in (alignment.source_mask, alignment.target_mask):
        assert not mask[:prefix].any()
        assert not mask[len(mask) - suffix :].any()


@pytest.mark.parametrize("method", METHODS)
@given(source=small, target=small)
def test_anchors_add_at_most_the_first_token_of_the_suffix_or_the_last_of_the_sequence(method, source, target):
    alignment = align(source, target, method)
    prefix, suffix = common_affixes(source, target)
    for mask in (alignment.source_mask, alignment.target_mask):
        allowed = np.zeros(len(mask), bool)
        allowed[prefix : len(mask) - suffix] = True
        if source != target and len(mask):
            allowed[min(len(mask) - suffix, len(mask) - 1)] = True
        assert not (mask & ~allowed).any()


@given(source=small, target=small)
def test_with_anchors_any_difference_marks_both_sides(source, target):
    alignment = align(source, target)
    for mask in (alignment.source_mask, alignment.target_mask):
        assert mask.any() == (source != target and len(mask) > 0)


@given(source=small, target=small)
def test_same_pair_gives_the_same_path(source, target):
    first, second = align(source, target), align(np.array(source, np.int64), tuple(target))
    assert first.edits == second.edits


@pytest.mark.parametrize(
    ("source", "target", "source_mask", "target_mask", "edits"),
    [
        ([1, 2, 3], [1, 9, 3], [0, 1, 0], [0, 1, 0], [Edit("substitute", 1, 1)]),
        ([1, 2, 3], [1, 3], [0, 1, 0], [0, 1], [Edit("delete", 1, 1)]),  # the 3 stands where the 2 was
        ([1, 3], [1, 2, 3], [0, 1], [0, 1, 0], [Edit("insert", 1, 1)]),  # the 3 came too early
        ([1, 2], [1, 2, 3], [0, 1], [0, 0, 1], [Edit("insert", 2, 2)]),  # at the end: the last token
        ([1, 2, 3], [1, 2], [0, 0, 1], [0, 1], [Edit("delete", 2, 2)]),
        ([2], [1, 2], [1], [1, 0], [Edit("insert", 0, 0)]),
        ([1, 5, 3], [1, 7, 8, 3], [0, 1, 0], [0, 1, 1, 0], None),  # no gap: the 5 stands there already
        ([4], [4], [0], [0], []),
        ([4], [5], [1], [1], [Edit("substitute", 0, 0)]),
        ([], [1, 2], [], [1, 1], [Edit("insert", 0, 0), Edit("insert", 0, 1)]),
        ([1], [], [1], [], [Edit("delete", 0, 0)]),
        ([], [], [], [], []),
    ],
)
def test_literal_masks(source, target, source_mask, target_mask, edits):
    alignment = align(source, target)
    assert alignment.source_mask.tolist() == [bool(x) for x in source_mask]
    assert alignment.target_mask.tolist() == [bool(x) for x in target_mask]
    assert alignment.source_mask.dtype == alignment.target_mask.dtype == np.bool_
    if edits is not None:
        assert list(alignment.edits) == edits


def test_lcs_replaces_by_deletion_and_insertion_without_anchoring_the_next_match():
    alignment = align([1, 2, 3], [1, 9, 3], "lcs")
    assert sorted(edit.op for edit in alignment.edits) == ["delete", "insert"]
    assert alignment.source_mask.tolist() == alignment.target_mask.tolist() == [False, True, False]


def test_without_anchors_a_pure_insertion_marks_the_target_alone():
    alignment = align([1, 3], [1, 2, 3], anchor_gaps=False)
    assert not alignment.source_mask.any()
    assert alignment.target_mask.tolist() == [False, True, False]


def test_edit_cost_is_eq_2():
    assert edit_cost(align([1, 2, 3, 4], [1, 9, 3])) == 2 / 4
    assert edit_cost(align([], [])) == 0.0
    assert edit_cost(align([], [1])) == 1.0
    assert edit_cost(align([5, 6], [5, 6])) == 0.0


@given(source=small, target=small)
def test_edit_cost_is_the_same_for_both_methods_and_between_0_and_1(source, target):
    cost = edit_cost(align(source, target))
    assert 0 <= cost <= 1
    assert cost == edit_cost(align(source, target, "lcs"))


@pytest.mark.parametrize("bad", [[3, -1], [3, -100], [2**31], [2**61 - 1], [2**40], [1.5], [None], ["a"]])
def test_ids_out_of_range_or_of_a_wrong_type_are_named(bad):
    with pytest.raises(DataError, match=rf"target: token {len(bad) - 1} is .*0 to 2\*\*31 - 1"):
        align([1], bad)


def test_ids_with_the_same_hash_are_distinguished_or_refused():
    # Python's hash is equal for -1 and -2, and for 0 and 2**61 - 1; a library that compares hashes finds no difference.
    for source, target in (([-1], [-2]), ([0], [2**61 - 1])):
        assert hash(source[0]) == hash(target[0])
        with pytest.raises(DataError):
            align(source, target)


@pytest.mark.parametrize("bad", ["text", b"bytes", np.zeros((2, 2), int), np.array([1.0]), np.array([True])])
def test_anything_but_a_row_of_ids_is_refused(bad):
    with pytest.raises(DataError, match="source"):
        align(bad, [1])


def test_unknown_method_names_the_known_ones():
    with pytest.raises(ConfigError, match="levenshtein, lcs"):
        align([1], [2], method="myers")


def test_lists_arrays_and_tensors_give_the_same():
    source, target = [7, 0, 55_296, 300_000, 9], [7, 55_296, 300_001, 9]  # a surrogate's code point among them
    expected = align(source, target)
    for convert in (tuple, np.array, torch.tensor, lambda x: np.array(x, np.uint32), lambda x: list(np.array(x))):
        assert align(convert(source), convert(target)).edits == expected.edits
    assert expected.source.tolist() == source


@pytest.mark.parametrize("method", METHODS)
def test_ids_beyond_unicode_on_one_side_or_both(method):
    large = 2**31 - 1
    assert align([1, large], [1, large], method).distance == 0
    assert align([1, 0x110000], [1, 5], method).source_mask.tolist() == [False, True]
    assert align([1, 5, 3], [1, large, 3], method).target_mask.tolist() == [False, True, False]


@given(source=small, target=small)
def test_splitting_a_large_lcs_table_keeps_the_path_shortest(source, target):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment_module, "_LCS_CELLS", 4)
        split = align(source, target, "lcs")
    assert split.distance == distance_oracle(source, target, "lcs")
    assert split.apply().tolist() == target
    prefix, suffix = common_affixes(source, target)
    bare = align(source, target, "lcs", anchor_gaps=False)
    assert not bare.source_mask[:prefix].any()
    assert not bare.source_mask[len(source) - suffix :].any()


def peak_mib(code):
    """Most memory that a fresh process held while it ran `code`."""
    report = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], check=True, capture_output=True, text=True)
    return int(done.stdout) / (2**20 if sys.platform == "darwin" else 2**10)


@pytest.mark.parametrize("method", METHODS)
def test_long_pairs_stay_within_linear_memory(method):
    code = (
        "import random; from difference_feedback import align; rng = random.Random(0); "
        "source, target = ([rng.randrange(50_000) for _ in range(16_384)] for _ in range(2)); "
        f"alignment = align(source, target, {method!r}); assert alignment.apply().tolist() == target; "
        "assert alignment.source_mask.sum() > 10_000"
    )
    # A table of one byte a cell would take 256 MiB, of four bytes 1 GiB.
    assert peak_mib(code) - peak_mib("from difference_feedback import align; align([1], [2])") < 64
