"""Laws of every objective on any batch: order, padding and sharding do not matter, and weight 0 gives gradient 0.

The weights are those of real alignments: Levenshtein or LCS, by token or by step, hard or soft, all edits or the root
cause.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_objectives import naive_loss
from objective_batches import CASES, WIDE, by_row, differentiate, loss_and_gradient, make_batch

from difference_feedback.method.alignment import align
from difference_feedback.method.masks import pad_weights, token_weights
from difference_feedback.method.objectives import kl_loss, loss_count

cases = pytest.mark.parametrize(("name", "length_norm"), CASES)
laws = settings(max_examples=25)
answers = st.lists(st.integers(0, 3), min_size=1, max_size=7)


@st.composite
def aligned_weights(draw):
    """Rows of weights, a wrong answer and then its repair, of one to three pairs."""
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        wrong, repair = draw(answers), draw(answers)
        alignment = align(wrong, repair, draw(st.sampled_from(["levenshtein", "lcs"])), draw(st.booleans()))
        granularity, sigma = draw(st.sampled_from(["token", "step"])), draw(st.sampled_from([None, 0.7]))
        for side, ids in (("wrong", wrong), ("repair", repair)):
            steps = [t // 3 for t in range(len(ids))]
            root_cause = draw(st.booleans())
            rows.append(token_weights(alignment, side, granularity, steps, sigma, root_cause=root_cause))
    return rows


def aligned_batch(name, rows, seed):
    weights = torch.from_numpy(pad_weights(rows)).double()
    batch = make_batch(name, seed, *weights.shape)
    lengths = torch.tensor([len(row) for row in rows])
    return {**batch, "weights": weights, "mask": (torch.arange(weights.shape[1]) < lengths[:, None]).double()}


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@cases
@laws
@given(rows=aligned_weights(), seed=st.integers(0, 99))
def test_weights_of_an_alignment_act_on_every_objective(name, length_norm, rows, seed):
    batch = aligned_batch(name, rows, seed)
    loss, gradient = loss_and_gradient(name, batch, length_norm=length_norm)
    expected = differentiate(lambda b: naive_loss(name, b, WIDE[name], length_norm), batch)
    assert_same((loss, gradient), expected)
    inactive = (batch["weights"] == 0) | (batch["mask"] == 0)
    assert torch.equal(gradient[inactive], torch.zeros_like(gradient[inactive]))


@cases
@laws
@given(rows=aligned_weights(), seed=st.integers(0, 99), random=st.randoms(use_true_random=False))
def test_the_order_of_sequences_does_not_matter(name, length_norm, rows, seed, random):
    batch = aligned_batch(name, rows, seed)
    loss, gradient = loss_and_gradient(name, batch, length_norm=length_norm)
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = by_row(batch, lambda key, value: value[order])
    assert_same(loss_and_gradient(name, shuffled, length_norm=length_norm), (loss, gradient[order]))


@cases
@laws
@given(
    rows=aligned_weights(),
    seed=st.integers(0, 99),
    columns=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    extra=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_padding_does_not_matter(name, length_norm, rows, seed, columns, extra):
    """Columns on both sides, rows above and below, all of them full of NaN."""
    batch = aligned_batch(name, rows, seed)
    left, right = columns

    def pad(value, fill):
        if value.dim() == 2:
            value = torch.nn.functional.pad(value, (left, right), value=fill)
        above, below = (torch.full((rows, *value.shape[1:]), fill, dtype=value.dtype) for rows in extra)
        return torch.cat([above, value, below])

    fills = {"mask": 0.0, "pairs": 12345}
    padded = by_row(batch, lambda key, value: pad(value, fills.get(key, float("nan"))))
    loss, gradient = loss_and_gradient(name, batch, length_norm=length_norm)
    found, padded_gradient = loss_and_gradient(name, padded, length_norm=length_norm)
    assert_same((found, padded_gradient), (loss, pad(gradient, 0.0)))


@cases
@laws
@given(rows=aligned_weights(), seed=st.integers(0, 99), places=st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_parts_of_a_batch_add_up_to_the_whole(name, length_norm, rows, seed, places):
    """Three ranks with any share of the rows, also none; each pads to its own longest row, as ranks do."""
    batch = aligned_batch(name, rows, seed)
    whole = loss_and_gradient(name, batch, length_norm=length_norm)
    place = torch.tensor(places)[: len(rows)]
    if name == "dpo":  # a pair stays in one part
        place = place[torch.arange(len(rows)) // 2]
    parts = []
    for k in range(3):
        rows_of_part = by_row(batch, lambda key, value: value[place == k])  # noqa: B023 - called at once
        width = max(1, int(rows_of_part["mask"].sum(1).max())) if len(rows_of_part["mask"]) else 1
        parts.append(by_row(rows_of_part, lambda key, value: value[:, :width] if value.dim() == 2 else value))  # noqa: B023
    read = ("weights", "mask", "max_tokens", "pairs")
    count = sum(
        loss_count(**{key: part[key] for key in read if key in part}, objective=name, length_norm=length_norm)
        for part in parts
    )
    total, gradient = torch.zeros_like(whole[0]), torch.zeros_like(whole[1])
    for k, part in enumerate(parts):
        loss, part_gradient = loss_and_gradient(name, part, length_norm=length_norm, count=count)
        total += loss
        gradient[place == k, : part_gradient.shape[1]] = part_gradient
    assert_same((total, gradient), whole)


@pytest.mark.parametrize("name", ["grpo", "dapo", "dr_grpo"])
@laws
@given(rows=aligned_weights(), seed=st.integers(0, 99), cut=st.integers(0, 6))
def test_parts_of_a_kl_add_up_as_well(name, rows, seed, cut):
    batch = aligned_batch(name, rows, seed)
    names, more = ("logps", "old_logps", "mask"), {"max_tokens": batch.get("max_tokens")}
    parts = [[batch[key][part] for key in names] for part in (slice(None, cut), slice(cut, None))]
    count = sum(loss_count(mask, mask, name, **more) for _, _, mask in parts)
    total = sum(kl_loss(*part, name, **more, count=count) for part in parts)
    assert_same(total, kl_loss(*(batch[key] for key in names), name, **more))
