"""Surrogate losses: exact zeros, the papers' formulas written out, finite differences, and rejected arguments."""

import math

import pytest
import torch
from naive_objectives import naive_gspo_sequence, naive_loss
from objective_batches import CASES, NAMES, WIDE, by_row, differentiate, loss_and_gradient, make_batch, options

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method.objectives import OBJECTIVES, Clip, Sharpness, Temperatures, register, surrogate_loss
from difference_feedback.method.weighting import gate_advantages, ppo_weights


def test_every_objective_has_its_papers_settings():
    assert {name: objective.settings for name, objective in OBJECTIVES.items()} == {
        "ppo": Clip(0.2, 0.2),
        "grpo": Clip(0.2, 0.2),
        "dapo": Clip(0.2, 0.28),
        "dr_grpo": Clip(0.2, 0.2),
        "gspo": Clip(3e-4, 4e-4),
        "sapo": Temperatures(1.0, 1.05),
        "cispo": Clip(1.0, 4.0),
        "dpo": Sharpness(0.1),
    }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("own", [True, False], ids=["own_settings", "wide"])
@pytest.mark.parametrize(("name", "length_norm"), CASES)
def test_equals_the_plain_implementation(name, length_norm, own, seed):
    batch = make_batch(name, seed)
    batch["weights"] *= 0.5 + torch.rand(4, 6, generator=torch.Generator().manual_seed(seed)).double()  # soft
    settings = OBJECTIVES[name].settings if own else WIDE[name]
    loss, gradient = loss_and_gradient(name, batch, length_norm=length_norm, **options(name, settings))
    expected = differentiate(lambda b: naive_loss(name, b, settings, length_norm), batch)
    torch.testing.assert_close(loss, expected[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, expected[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "length_norm"), CASES)
def test_with_every_weight_one_it_is_the_method_without_weights(name, length_norm, seed):
    batch = make_batch(name, seed)
    batch["weights"] = torch.ones_like(batch["weights"])
    loss, gradient = loss_and_gradient(name, batch, length_norm=length_norm)
    expected = differentiate(lambda b: naive_loss(name, {**b, "weights": None}, WIDE[name]), batch)
    torch.testing.assert_close(loss, expected[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, expected[1], rtol=1e-12, atol=1e-12)


def test_gspo_with_every_weight_one_has_the_gradient_of_the_sequence_form():
    batch = make_batch("gspo", seed=3, spread=0.05)
    batch["weights"] = torch.ones_like(batch["weights"])
    loss, gradient = loss_and_gradient("gspo", batch, clip_low=0.02, clip_high=0.02)
    expected = differentiate(lambda b: naive_gspo_sequence(b, (0.02, 0.02)), batch)
    torch.testing.assert_close(loss, expected[0])
    torch.testing.assert_close(gradient, expected[1])


@pytest.mark.parametrize(("name", "length_norm"), CASES)
def test_gradient_against_finite_differences(name, length_norm):
    batch = make_batch(name, seed=11)
    batch["weights"] *= 0.5 + batch["mask"] / 4  # soft weights as well
    _, gradient = loss_and_gradient(name, batch, length_norm=length_norm)
    base = batch["logps"]

    def value(logps):
        if name in ("gspo", "cispo"):  # what is under a stop-gradient is a constant: held at the base point
            return naive_loss(name, {**batch, "logps": logps}, WIDE[name], length_norm, frozen=base)
        return loss_and_gradient(name, {**batch, "logps": logps}, length_norm=length_norm)[0]

    step = 1e-6
    for i in range(base.shape[0]):
        for t in range(base.shape[1]):
            bump = torch.zeros_like(base)
            bump[i, t] = step
            slope = (value(base + bump) - value(base - bump)) / (2 * step)
            torch.testing.assert_close(gradient[i, t], slope, rtol=1e-5, atol=1e-8)
    assert gradient.abs().max() > 0.01


@pytest.mark.parametrize(("name", "length_norm"), CASES)
def test_gradient_is_exactly_zero_at_weight_zero_and_at_padding(name, length_norm):
    batch = make_batch(name, seed=5)
    _, gradient = loss_and_gradient(name, batch, length_norm=length_norm)
    inactive = (batch["weights"] == 0) | (batch["mask"] == 0)
    assert torch.equal(gradient[inactive], torch.zeros_like(gradient[inactive]))
    assert (gradient[~inactive] != 0).any()


@pytest.mark.parametrize("poison", ["ratio", "advantage", "padding"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_no_nan_from_zero_times_infinity(name, dtype, poison):
    batch = by_row(make_batch(name, seed=5), lambda key, value: value if key == "pairs" else value.to(dtype))
    batch["mask"][:, -1] = 0
    batch["mask"][:, 0] = 1
    batch["weights"][:, 0] = 0
    batch["weights"][:, 1] = 1
    if poison == "ratio":
        batch["logps"][0, 0], batch["old_logps"][0, 0] = 0.0, -1e6
        batch["logps"][1, 0], batch["old_logps"][1, 0] = -float("inf"), -1.0
    elif poison == "advantage" and name == "ppo":
        batch["advantages"][:, 0] = float("nan")
    elif poison == "advantage" and name == "dpo":
        batch["advantages"] *= float("inf")
    elif poison == "advantage":
        batch["advantages"] = torch.tensor([0.0, float("inf"), 1.0, 1.0], dtype=dtype)
        batch["weights"][1] = 0
        batch["logps"][0, 1], batch["old_logps"][0, 1] = 0.0, -1e6  # advantage 0, ratio inf
        batch["mask"][0, 1] = 1
    else:
        batch["logps"][:, -1], batch["old_logps"][:, -1] = float("nan"), -float("inf")
        batch["weights"][:, -1] = 1
    loss, gradient = loss_and_gradient(name, batch)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert torch.equal(gradient[:, 0], torch.zeros(4, dtype=dtype))
    assert torch.equal(gradient[:, -1], torch.zeros(4, dtype=dtype))


@pytest.mark.parametrize(
    ("name", "more", "value", "slope"),
    [
        *((name, {"clip_high": 0.2}, -1.2, 0.0) for name in ("grpo", "ppo", "dapo", "gspo")),
        ("dr_grpo", {"clip_high": 0.2, "max_tokens": 4}, -0.3, 0.0),
        ("sapo", {}, -4.0, 0.0),  # soft clipping removes the gradient
        ("cispo", {}, 2.5, -5.0),  # the weight is clipped, and the token keeps its gradient
    ],
)
def test_an_overflowing_ratio_at_a_weighted_token(name, more, value, slope):
    logps = torch.full((1, 1), -0.5, requires_grad=True)
    ones = torch.ones(1, 1)
    loss = surrogate_loss(logps, logps.detach() - 1000, torch.ones(1), ones, ones, objective=name, **more)
    loss.backward()
    torch.testing.assert_close(loss.detach(), torch.tensor(value))
    assert logps.grad.item() == slope


@pytest.mark.parametrize("gap", [-1000.0, 1000.0])
def test_dpo_is_finite_at_a_hopeless_and_at_a_settled_pair(gap):
    logps = torch.tensor([[gap], [0.0]], requires_grad=True)
    ones = torch.ones(2, 1)
    loss = surrogate_loss(
        logps,
        torch.zeros(2, 1),
        torch.tensor([1.0, -1.0]),
        ones,
        ones,
        objective="dpo",
        pairs=torch.tensor([0, 0]),
        beta=0.5,
    )
    loss.backward()
    assert loss.item() == max(0.0, -gap * 0.5)
    assert logps.grad.tolist() == ([[0.0], [0.0]] if gap > 0 else [[-0.5], [0.5]])


@pytest.mark.parametrize(("name", "length_norm"), CASES)
def test_rows_of_padding_change_nothing(name, length_norm):
    batch = make_batch(name, seed=7)
    loss, gradient = loss_and_gradient(name, batch, length_norm=length_norm)
    extended = by_row(
        batch, lambda key, value: torch.cat([value, torch.full_like(value[:2], 0 if key == "mask" else 3)])
    )
    padded_loss, padded_gradient = loss_and_gradient(name, extended, length_norm=length_norm)
    assert torch.equal(padded_loss, loss)
    assert torch.equal(padded_gradient, torch.cat([gradient, torch.zeros(2, gradient.shape[1]).double()]))


@pytest.mark.parametrize(("name", "length_norm"), CASES)
@pytest.mark.parametrize("empty", ["weights", "mask"])
def test_without_weighted_tokens_the_loss_is_a_differentiable_constant(name, length_norm, empty):
    batch = make_batch(name)
    batch[empty] = torch.zeros_like(batch[empty])
    if (name, empty) == ("dpo", "weights"):  # undecided pairs are still pairs
        batch["mask"] = torch.ones_like(batch["mask"])
    loss, gradient = loss_and_gradient(name, batch, length_norm=length_norm)
    assert loss.item() == pytest.approx(math.log(2) if (name, empty) == ("dpo", "weights") else 0.0, abs=0)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_length_norm_tokens_shrinks_a_sparse_mask_and_weights_does_not():
    # On-policy, ratio 1, advantage 2: one weighted token of four, and a row of weighted tokens.
    zeros = torch.zeros(2, 4)
    weights = torch.tensor([[0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    arguments = (zeros, zeros, torch.tensor([2.0, 2.0]), weights, torch.ones(2, 4))
    assert surrogate_loss(*arguments, length_norm="tokens").item() == -(2 / 4 + 2) / 2
    assert surrogate_loss(*arguments, length_norm="weights").item() == -2.0
    for name in ("ppo", "dapo"):
        assert surrogate_loss(*arguments, objective=name, length_norm="tokens").item() == -10 / 8
        assert surrogate_loss(*arguments, objective=name, length_norm="weights").item() == -2.0


def test_length_norm_weights_counts_no_padding():
    logps = torch.zeros(1, 4)
    arguments = (logps, logps, torch.tensor([3.0]), torch.ones(1, 4), torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    assert surrogate_loss(*arguments, length_norm="weights").item() == -3.0


def test_a_row_without_weighted_tokens_counts_in_the_group():
    logps = torch.zeros(2, 2)
    weights = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    for length_norm in ("tokens", "weights"):
        loss = surrogate_loss(logps, logps, torch.ones(2), weights, torch.ones(2, 2), length_norm=length_norm)
        assert loss.item() == -0.5


def test_gspo_ratio_takes_every_completion_token_in():
    old = torch.zeros(1, 4)
    logps = torch.tensor([[0.04, 0.04, 0.04, 9.0]], requires_grad=True)
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    weights = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    loss = surrogate_loss(logps, old, torch.ones(1), weights, mask, "gspo", 0.5, 0.5)
    torch.testing.assert_close(loss.detach(), -torch.exp(torch.tensor(0.04)) / 3)
    changed = torch.tensor([[0.04, 0.1, 0.04, 9.0]])  # an unweighted token changes the ratio's value
    assert surrogate_loss(changed, old, torch.ones(1), weights, mask, "gspo", 0.5, 0.5) < loss


def test_df_ppo_is_ppo_bit_for_bit_when_every_answer_is_right():
    batch = make_batch("ppo", seed=2)
    correct = torch.ones(4, dtype=torch.bool)
    ones = torch.ones_like(batch["weights"])
    plain = loss_and_gradient("ppo", {**batch, "weights": ones})
    by_weights = loss_and_gradient("ppo", {**batch, "weights": ppo_weights(batch["weights"], correct)})
    weighted = gate_advantages(batch["advantages"], ppo_weights(batch["weights"], correct))
    by_advantages = loss_and_gradient("ppo", {**batch, "advantages": weighted, "weights": ones})
    for loss, gradient in (by_weights, by_advantages):
        assert torch.equal(loss, plain[0])
        assert torch.equal(gradient, plain[1])


def test_df_ppo_weighs_wrong_trajectories_only():
    batch = make_batch("ppo", seed=2)
    batch["mask"] = torch.ones_like(batch["mask"])
    batch["logps"] = batch["old_logps"].clone()  # on-policy: nothing is clipped
    correct = torch.tensor([True, False, True, False])
    weights = torch.zeros_like(batch["weights"])
    weights[1, 2] = 1
    _, gradient = loss_and_gradient("ppo", {**batch, "weights": ppo_weights(weights, correct)})
    expected = torch.zeros(4, 6, dtype=torch.bool)
    expected[[0, 2]] = True
    expected[1, 2] = True
    assert torch.equal(gradient != 0, expected)


@pytest.mark.parametrize("name", NAMES)
def test_on_policy_every_method_is_the_weighted_policy_gradient(name):
    """Eq. 10: at `π_θ = π_old` the gradient is `w_t A` times one factor for the whole batch, or for a whole row."""
    batch = make_batch(name, seed=1)
    batch["logps"] = batch["old_logps"].clone()
    _, gradient = loss_and_gradient(name, batch)
    mask, rows = batch["mask"], 4
    scale = {
        **dict.fromkeys(("ppo", "dapo", "cispo"), 1 / mask.sum()),
        **dict.fromkeys(("grpo", "gspo", "sapo"), 1 / mask.sum(1, keepdim=True) / rows),
        "dr_grpo": 1 / 7 / rows,
        "dpo": 0.1 * 0.5 / (rows / 2),  # β σ(-0), for each pair
    }[name]
    advantages = batch["advantages"].sign() if name == "dpo" else batch["advantages"]
    advantages = advantages if name == "ppo" else advantages[:, None]
    torch.testing.assert_close(gradient, -scale * batch["weights"] * advantages * mask)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_computed_in_float32(name):
    batch = by_row(make_batch(name, seed=1), lambda key, value: value if key == "pairs" else value.to(torch.bfloat16))
    loss, gradient = loss_and_gradient(name, batch)
    assert loss.dtype == torch.float32
    assert gradient.dtype == torch.bfloat16
    single = by_row(batch, lambda key, value: value if key == "pairs" else value.float())
    assert torch.equal(loss, loss_and_gradient(name, single)[0])


@pytest.mark.parametrize("name", NAMES)
def test_no_gradient_goes_into_the_old_policy(name):
    batch = make_batch(name)
    batch["old_logps"].requires_grad_()
    loss_and_gradient(name, batch)
    assert batch["old_logps"].grad is None


@pytest.mark.parametrize("field", ["old_logps", "weights", "mask"])
def test_shapes_are_named(field):
    batch = make_batch("grpo")
    batch[field] = batch[field][:, :-1]
    with pytest.raises(DataError, match=rf"{field} \(4, 5\).*same \(B, T\)"):
        surrogate_loss(**batch)


def test_advantages_of_a_wrong_shape_are_named():
    with pytest.raises(DataError, match=r"advantages have shape \(3,\)"):
        surrogate_loss(**{**make_batch("grpo"), "advantages": torch.ones(3)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"advantages": torch.tensor([1.0, -1.0, 1.0, 1.0])},
            "pairs: number 11 is not one row with an advantage above 0",
        ),
        ({"advantages": torch.tensor([1.0, -1.0, 1.0, 0.0])}, "pairs: number 11"),
        ({"advantages": torch.tensor([1.0, float("nan"), 1.0, -1.0])}, "pairs: number 10"),
        ({"pairs": torch.tensor([10, 10, 11, 12])}, "pairs: number 11.*leave out wrong answers that have no repair"),
        ({"pairs": torch.tensor([10, 10, 10, 10])}, "pairs: number 10"),
        ({"pairs": torch.zeros(4).long(), "advantages": torch.tensor([1.0, -1.0, 0.0, 0.0])}, "pairs: number 0"),
        ({"pairs": torch.tensor([10, 10])}, r"pairs have shape \(2,\).*each of the 4 rows"),
        ({"pairs": torch.tensor([0.0, 0.0, 1.0, 1.0])}, "float32.*one integer"),
        ({"advantages": torch.ones(4, 6)}, r"\(4, 6\); DPO compares whole answers"),
    ],
)
def test_rows_that_are_not_pairs_are_named(change, message):
    with pytest.raises(DataError, match=message):
        surrogate_loss(**{**make_batch("dpo"), **change}, objective="dpo")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "gropo"}, "did you mean 'grpo'"),
        ({"length_norm": "rows"}, '"tokens" or "weights"'),
        ({"clip_low": -0.1}, "clip_low is -0.1"),
        ({"clip_high": float("nan")}, "clip_high is nan"),
        ({"beta": 0.1}, "beta is 0.1, but objective 'grpo' .*clip_low, clip_high"),
        ({"objective": "sapo", "clip_low": 0.2}, "clip_low is 0.2.*tau_positive, tau_negative"),
        ({"objective": "sapo", "tau_negative": 0.0}, "tau_positive is 1.0, tau_negative is 0.0; give .*above 0"),
        ({"objective": "sapo", "tau_positive": float("inf")}, "tau_positive is inf"),
        ({"objective": "dr_grpo"}, "needs max_tokens"),
        ({"objective": "dr_grpo", "max_tokens": 0}, "max_tokens is 0"),
        ({"objective": "dr_grpo", "max_tokens": 9, "length_norm": "weights"}, "divides by a constant"),
        ({"max_tokens": 9}, "max_tokens is 9.*leave it out"),
        ({"objective": "dpo"}, r"needs pairs; .*\(B,\)"),
        ({"pairs": torch.zeros(4).long()}, "pairs are given"),
        (
            {"objective": "dpo", "pairs": torch.zeros(4).long(), "length_norm": "weights"},
            "does not divide by a number of tokens",
        ),
        ({"objective": "dpo", "pairs": torch.zeros(4).long(), "beta": -1.0}, "beta is -1.0"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        surrogate_loss(**make_batch("grpo"), **options)


def test_adding_an_objective_is_one_function():
    @register("reinforce", reduction="sequence")
    def reinforce(log_ratio, advantages, mask, clip):
        return log_ratio * advantages

    try:
        batch = make_batch("grpo", seed=4)
        _, gradient = differentiate(lambda b: surrogate_loss(**b, objective="reinforce"), batch)
        lengths = batch["mask"].sum(1, keepdim=True)
        expected = -batch["weights"] * batch["mask"] * batch["advantages"][:, None] / lengths / 4
        torch.testing.assert_close(gradient, expected)
    finally:
        del OBJECTIVES["reinforce"]
