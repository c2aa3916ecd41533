"""Surrogate losses: exact zeros, the papers' own formulas written out, and finite differences."""

import pytest
import torch

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.gating import gate_ppo_advantages, ppo_weights
from difference_feedback.objectives import OBJECTIVES, register, surrogate_loss

NAMES = ("grpo", "ppo", "gspo")


def make_batch(seed=0, rows=4, length=6, spread=0.3):
    """Log-probs of mixed lengths; the new ones far enough from the old that some ratios are clipped on each side."""
    generator = torch.Generator().manual_seed(seed)
    old = -torch.rand(rows, length, generator=generator, dtype=torch.float64) - 0.1
    logps = old + spread * torch.randn(rows, length, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, length + 1, (rows,), generator=generator)
    mask = (torch.arange(length) < lengths[:, None]).double()
    weights = (torch.rand(rows, length, generator=generator, dtype=torch.float64) < 0.5).double()
    return {
        "logps": logps.requires_grad_(),
        "old_logps": old,
        "advantages": torch.randn(rows, generator=generator, dtype=torch.float64),
        "weights": weights,
        "mask": mask,
    }


def loss_and_gradient(batch, **options):
    logps = batch["logps"].detach().clone().requires_grad_()
    loss = surrogate_loss(**{**batch, "logps": logps}, **options)
    loss.backward()
    return loss.detach(), logps.grad


def plain_grpo(logps, old_logps, advantages, weights, mask, low, high):
    """GRPO's objective as its paper writes it, in loops, the advantage of token t being `w_t A`."""
    total = 0.0
    for i in range(len(logps)):
        row = 0.0
        for t in range(logps.shape[1]):
            if mask[i, t]:
                ratio, gated = torch.exp(logps[i, t] - old_logps[i, t]), weights[i, t] * advantages[i]
                row = row + min(ratio * gated, torch.clamp(ratio, 1 - low, 1 + high) * gated)
        total = total + row / mask[i].sum()
    return -total / len(logps)


def plain_ppo(logps, old_logps, advantages, weights, mask, low, high):
    """PPO's clipped objective: the mean over the batch's time steps."""
    terms = []
    for i, t in mask.nonzero().tolist():
        ratio, gated = torch.exp(logps[i, t] - old_logps[i, t]), weights[i, t] * advantages[i, t]
        terms.append(min(ratio * gated, torch.clamp(ratio, 1 - low, 1 + high) * gated))
    return -torch.stack(terms).mean()


def plain_gspo_token(logps, old_logps, advantages, weights, mask, low, high, frozen=None):
    """GSPO-token: `s_t = sg[s] π_t / sg[π_t]`; `frozen` are the log-probs under the stop-gradients."""
    frozen = logps.detach() if frozen is None else frozen
    total = 0.0
    for i in range(len(logps)):
        length = int(mask[i].sum())
        sequence = torch.exp((frozen[i, :length] - old_logps[i, :length]).sum() / length)
        for t in range(length):
            ratio, gated = sequence * torch.exp(logps[i, t] - frozen[i, t]), weights[i, t] * advantages[i]
            total = total + min(ratio * gated, torch.clamp(ratio, 1 - low, 1 + high) * gated) / length
    return -total / len(logps)


def plain_gspo_sequence(logps, old_logps, advantages, mask, low, high):
    """GSPO as its paper writes it first, with one ratio a sequence and its gradient going into every token."""
    total = 0.0
    for i in range(len(logps)):
        length = int(mask[i].sum())
        sequence = torch.exp((logps[i, :length] - old_logps[i, :length]).sum() / length)
        total = total + min(sequence * advantages[i], torch.clamp(sequence, 1 - low, 1 + high) * advantages[i])
    return -total / len(logps)


PLAIN = {"grpo": plain_grpo, "ppo": plain_ppo, "gspo": plain_gspo_token}


def batch_for(name, **options):
    batch = make_batch(**options)
    if name == "ppo":  # a critic's advantages, one for each token
        generator = torch.Generator().manual_seed(99)
        batch["advantages"] = torch.randn(batch["logps"].shape, generator=generator, dtype=torch.float64)
    return batch


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_plain_implementation(name, gated, seed):
    batch = batch_for(name, seed=seed)
    if not gated:
        batch["weights"] = torch.ones_like(batch["weights"])
    loss, gradient = loss_and_gradient(batch, objective=name, clip_low=0.1, clip_high=0.3)
    logps = batch["logps"].detach().clone().requires_grad_()
    expected = PLAIN[name](**{**batch, "logps": logps}, low=0.1, high=0.3)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, logps.grad, rtol=1e-12, atol=1e-12)


def test_gspo_with_every_weight_one_has_the_gradient_of_the_sequence_form():
    batch = make_batch(seed=3, spread=0.05)
    batch["weights"] = torch.ones_like(batch["weights"])
    loss, gradient = loss_and_gradient(batch, objective="gspo", clip_low=0.02, clip_high=0.02)
    logps = batch["logps"].detach().clone().requires_grad_()
    expected = plain_gspo_sequence(logps, batch["old_logps"], batch["advantages"], batch["mask"], 0.02, 0.02)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, logps.grad)


@pytest.mark.parametrize("length_norm", ["tokens", "gated"])
@pytest.mark.parametrize("name", NAMES)
def test_gradient_against_finite_differences(name, length_norm):
    batch = batch_for(name, seed=11)
    batch["weights"] *= 0.5 + batch["mask"] / 4  # soft weights as well
    _, gradient = loss_and_gradient(batch, objective=name, length_norm=length_norm)
    base = batch["logps"].detach()

    def value(logps):
        if name != "gspo":
            return surrogate_loss(**{**batch, "logps": logps}, objective=name, length_norm=length_norm)
        # The stop-gradients are constants to differentiate around, so they are held at the base point.
        weights = batch["weights"]
        if length_norm == "gated":  # the same loss, with the normaliser moved into the weights
            gated = (weights * batch["mask"]).sum(1, keepdim=True)
            weights = weights * batch["mask"].sum(1, keepdim=True) / gated.clamp(min=1e-300)
        return plain_gspo_token(**{**batch, "logps": logps, "weights": weights}, low=0.2, high=0.2, frozen=base)

    step = 1e-6
    for i in range(base.shape[0]):
        for t in range(base.shape[1]):
            bump = torch.zeros_like(base)
            bump[i, t] = step
            slope = (value(base + bump) - value(base - bump)) / (2 * step)
            torch.testing.assert_close(gradient[i, t], slope.detach(), rtol=1e-5, atol=1e-8)
    assert gradient.abs().max() > 0.01


@pytest.mark.parametrize("length_norm", ["tokens", "gated"])
@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_exactly_zero_at_weight_zero_and_at_padding(name, length_norm):
    batch = batch_for(name, seed=5)
    _, gradient = loss_and_gradient(batch, objective=name, length_norm=length_norm)
    closed = (batch["weights"] == 0) | (batch["mask"] == 0)
    assert torch.equal(gradient[closed], torch.zeros_like(gradient[closed]))
    assert (gradient[~closed] != 0).any()


@pytest.mark.parametrize("poison", ["ratio", "advantage", "padding"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_no_nan_from_zero_times_infinity(name, dtype, poison):
    batch = {key: value.detach().to(dtype) for key, value in batch_for(name, seed=5).items()}
    batch["mask"][:, -1] = 0
    batch["mask"][:, 0] = 1
    batch["weights"][:, 0] = 0
    batch["weights"][:, 1] = 1
    if poison == "ratio":
        batch["logps"][0, 0], batch["old_logps"][0, 0] = 0.0, -1e6
        batch["logps"][1, 0], batch["old_logps"][1, 0] = -float("inf"), -1.0
    elif poison == "advantage" and batch["advantages"].dim() == 2:
        batch["advantages"][:, 0] = float("nan")
    elif poison == "advantage":
        batch["advantages"] = torch.tensor([0.0, float("inf"), 1.0, 1.0], dtype=dtype)
        batch["weights"][1] = 0
        batch["logps"][0, 1], batch["old_logps"][0, 1] = 0.0, -1e6  # advantage 0, ratio inf
        batch["mask"][0, 1] = 1
    else:
        batch["logps"][:, -1], batch["old_logps"][:, -1] = float("nan"), -float("inf")
        batch["weights"][:, -1] = 1
    loss, gradient = loss_and_gradient(batch, objective=name)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert torch.equal(gradient[:, 0], torch.zeros(4, dtype=dtype))
    assert torch.equal(gradient[:, -1], torch.zeros(4, dtype=dtype))


@pytest.mark.parametrize("name", NAMES)
def test_an_overflowing_ratio_at_an_open_token_is_clipped_and_has_no_gradient(name):
    options = {"objective": name, "clip_high": 0.2}
    batch = {
        "logps": torch.zeros(1, 1),
        "old_logps": torch.full((1, 1), -1000.0),
        "advantages": torch.ones(1, 1) if name == "ppo" else torch.ones(1),
        "weights": torch.ones(1, 1),
        "mask": torch.ones(1, 1),
    }
    loss, gradient = loss_and_gradient(batch, **options)
    torch.testing.assert_close(loss, torch.tensor(-1.2))
    assert gradient.item() == 0.0


@pytest.mark.parametrize("length_norm", ["tokens", "gated"])
@pytest.mark.parametrize("name", NAMES)
def test_rows_of_padding_change_nothing(name, length_norm):
    batch = batch_for(name, seed=7)
    loss, gradient = loss_and_gradient(batch, objective=name, length_norm=length_norm)
    extended = {
        key: torch.cat([value.detach(), torch.full((2, *value.shape[1:]), 0.0 if key == "mask" else 3.0)]).double()
        for key, value in batch.items()
    }
    padded_loss, padded_gradient = loss_and_gradient(extended, objective=name, length_norm=length_norm)
    assert torch.equal(padded_loss, loss)
    assert torch.equal(padded_gradient, torch.cat([gradient, torch.zeros(2, gradient.shape[1]).double()]))


@pytest.mark.parametrize("length_norm", ["tokens", "gated"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("empty", ["weights", "mask"])
def test_nothing_open_is_a_loss_of_zero_that_can_be_differentiated(name, length_norm, empty):
    batch = batch_for(name)
    batch[empty] = torch.zeros_like(batch[empty])
    loss, gradient = loss_and_gradient(batch, objective=name, length_norm=length_norm)
    assert loss == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_length_norm_tokens_shrinks_a_sparse_mask_and_gated_does_not():
    # On-policy, ratio 1, advantage 2: one gated token of four, and a row that is fully open.
    zeros = torch.zeros(2, 4)
    weights = torch.tensor([[0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    arguments = (zeros, zeros, torch.tensor([2.0, 2.0]), weights, torch.ones(2, 4))
    assert surrogate_loss(*arguments, length_norm="tokens").item() == -(2 / 4 + 2) / 2
    assert surrogate_loss(*arguments, length_norm="gated").item() == -2.0
    assert surrogate_loss(*arguments, objective="ppo", length_norm="tokens").item() == -10 / 8
    assert surrogate_loss(*arguments, objective="ppo", length_norm="gated").item() == -2.0


def test_gated_normaliser_counts_no_padding():
    logps = torch.zeros(1, 4)
    arguments = (logps, logps, torch.tensor([3.0]), torch.ones(1, 4), torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    assert surrogate_loss(*arguments, length_norm="gated").item() == -3.0


def test_a_row_without_gated_tokens_counts_in_the_group():
    logps = torch.zeros(2, 2)
    weights = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    for length_norm in ("tokens", "gated"):
        loss = surrogate_loss(logps, logps, torch.ones(2), weights, torch.ones(2, 2), length_norm=length_norm)
        assert loss.item() == -0.5


def test_gspo_ratio_takes_every_completion_token_in():
    old = torch.zeros(1, 4)
    logps = torch.tensor([[0.04, 0.04, 0.04, 9.0]], requires_grad=True)
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    weights = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    loss = surrogate_loss(logps, old, torch.ones(1), weights, mask, "gspo", 0.5, 0.5)
    torch.testing.assert_close(loss.detach(), -torch.exp(torch.tensor(0.04)) / 3)
    changed = torch.tensor([[0.04, 0.1, 0.04, 9.0]])  # an ungated token changes the ratio's value
    assert surrogate_loss(changed, old, torch.ones(1), weights, mask, "gspo", 0.5, 0.5) < loss


def test_df_ppo_is_ppo_bit_for_bit_when_every_answer_is_right():
    batch = batch_for("ppo", seed=2)
    correct = torch.ones(4, dtype=torch.bool)
    ones = torch.ones_like(batch["weights"])
    plain = loss_and_gradient({**batch, "weights": ones}, objective="ppo")
    by_weights = loss_and_gradient({**batch, "weights": ppo_weights(batch["weights"], correct)}, objective="ppo")
    gated = gate_ppo_advantages(batch["advantages"], batch["weights"], correct)
    by_advantages = loss_and_gradient({**batch, "advantages": gated, "weights": ones}, objective="ppo")
    for loss, gradient in (by_weights, by_advantages):
        assert torch.equal(loss, plain[0])
        assert torch.equal(gradient, plain[1])


def test_df_ppo_gates_wrong_trajectories_alone():
    batch = batch_for("ppo", seed=2)
    batch["mask"] = torch.ones_like(batch["mask"])
    batch["logps"] = batch["old_logps"].clone()  # on-policy: nothing is clipped
    correct = torch.tensor([True, False, True, False])
    weights = torch.zeros_like(batch["weights"])
    weights[1, 2] = 1
    _, gradient = loss_and_gradient({**batch, "weights": ppo_weights(weights, correct)}, objective="ppo")
    expected = torch.zeros(4, 6, dtype=torch.bool)
    expected[[0, 2]] = True
    expected[1, 2] = True
    assert torch.equal(gradient != 0, expected)


def test_half_precision_is_computed_in_float32():
    batch = {key: value.detach().to(torch.bfloat16) for key, value in make_batch(seed=1).items()}
    loss, gradient = loss_and_gradient(batch)
    assert loss.dtype == torch.float32
    assert gradient.dtype == torch.bfloat16
    reference, _ = loss_and_gradient({key: value.float() for key, value in batch.items()})
    assert torch.equal(loss, reference)


def test_no_gradient_goes_into_the_old_policy():
    batch = make_batch()
    batch["old_logps"].requires_grad_()
    surrogate_loss(**batch).backward()
    assert batch["old_logps"].grad is None


@pytest.mark.parametrize("field", ["old_logps", "weights", "mask"])
def test_shapes_are_named(field):
    batch = make_batch()
    batch[field] = batch[field][:, :-1]
    with pytest.raises(DataError, match=rf"{field} \(4, 5\).*same \(B, T\)"):
        surrogate_loss(**batch)


def test_advantages_of_a_wrong_shape_are_named():
    with pytest.raises(DataError, match=r"advantages have shape \(3,\)"):
        surrogate_loss(**{**make_batch(), "advantages": torch.ones(3)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "gropo"}, "did you mean 'grpo'"),
        ({"length_norm": "rows"}, '"tokens" or "gated"'),
        ({"clip_low": -0.1}, "clip_low is -0.1"),
        ({"clip_high": float("nan")}, "clip_high nan"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        surrogate_loss(**make_batch(), **options)


def test_adding_an_objective_is_one_function():
    @register("reinforce", reduction="sequence")
    def reinforce(log_ratio, advantages, mask, clip):
        return log_ratio * advantages

    try:
        batch = make_batch(seed=4)
        _, gradient = loss_and_gradient(batch, objective="reinforce")
        lengths = batch["mask"].sum(1, keepdim=True)
        expected = -batch["weights"] * batch["mask"] * batch["advantages"][:, None] / lengths / 4
        torch.testing.assert_close(gradient, expected)
    finally:
        del OBJECTIVES["reinforce"]
