"""Each objective on a batch small enough for pen and paper."""

import math

import pytest
import torch

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method.objectives import anchor_logps, kl_loss, loss_count, surrogate_loss


def evaluate(ratios, advantages, weights, mask, logp=-1.0, **options):
    """Loss and gradient at importance ratios written down as such; `log π_θ` is `logp` everywhere."""
    logps = torch.full((len(ratios), len(ratios[0])), logp, dtype=torch.float64, requires_grad=True)
    old = logps.detach() - torch.tensor(ratios, dtype=torch.float64).log()
    table = [torch.tensor(rows, dtype=torch.float64) for rows in (advantages, weights, mask)]
    loss = surrogate_loss(logps, old, *table, **options)
    loss.backward()
    return loss.item(), logps.grad.tolist()


# A right answer of one token, and a wrong answer of three tokens with the weights 1, 0 and 0.5.
RATIOS, ADVANTAGES = [[1.5, 1.0, 1.0], [0.5, 1.0, 2.0]], [1.0, -2.0]
WEIGHTS, MASK = [[1.0, 1.0, 1.0], [1.0, 0.0, 0.5]], [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]


@pytest.mark.parametrize(
    ("options", "value", "gradient"),
    [
        # min(1.5, 1.2) = 1.2;  min(-1, 0.8 * -2) = -1.6;  0;  min(2 * -1, 1.2 * -1) = -2, the one that is not clipped
        ({"objective": "grpo"}, -(1.2 - 3.6 / 3) / 2, 2 / 3 / 2),
        ({"objective": "ppo"}, -(1.2 - 3.6) / 4, 2 / 4),
        ({"objective": "dapo"}, -(1.28 - 3.6) / 4, 2 / 4),  # clip-higher: 1.28
        ({"objective": "dr_grpo", "max_tokens": 8}, -(1.2 - 3.6) / 8 / 2, 2 / 8 / 2),
        # the second row weighs 1.5, the batch 2.5
        ({"objective": "grpo", "length_norm": "weights"}, -(1.2 - 3.6 / 1.5) / 2, 2 / 1.5 / 2),
        ({"objective": "dapo", "length_norm": "weights"}, -(1.28 - 3.6) / 2.5, 2 / 2.5),
        # four tokens in all, of which another rank has twelve more
        ({"objective": "dapo", "count": 16}, -(1.28 - 3.6) / 16, 2 / 16),
    ],
)
def test_clipped_ratios(options, value, gradient):
    loss, gradients = evaluate(RATIOS, ADVANTAGES, WEIGHTS, MASK, **options)
    assert loss == pytest.approx(value, rel=1e-12)
    assert gradients[0] == [0.0, 0.0, 0.0]
    assert gradients[1] == [0.0, 0.0, pytest.approx(gradient, rel=1e-12)]


def test_gspo_clips_the_geometric_mean_at_its_own_range():
    # sqrt(1.0002 * 1.0004) = 1.0003 is inside [0.9997, 1.0004]; sqrt(1.001 * 1.001) is not.
    ratios = [[1.0002, 1.0004], [1.001, 1.001]]
    loss, gradient = evaluate(ratios, [1.0, 1.0], [[1.0, 0.0], [1.0, 0.0]], [[1.0, 1.0]] * 2, objective="gspo")
    inside = math.sqrt(1.0002 * 1.0004)
    assert loss == pytest.approx(-(inside / 2 + 1.0004 / 2) / 2, rel=1e-12)
    assert gradient == [[pytest.approx(-inside / 4, rel=1e-12), 0.0], [0.0, 0.0]]


def test_sapo_clips_softly_and_by_the_sign():
    # σ(ln 3) = 3/4: f = 4/τ * 3/4 = 3/τ, and the gradient's factor is 4 * 3/4 * 1/4 * ρ = 3/4 ρ.
    up, down = 1 + math.log(3), 1 + math.log(3) / 1.05
    loss, gradient = evaluate(
        [[up, 1.0], [down, 1.0]], [1.0, -1.0], [[1.0, 0.0], [0.5, 1.0]], [[1.0, 1.0]] * 2, objective="sapo"
    )
    assert loss == pytest.approx(-(3 / 2 - (0.5 * 3 / 1.05 + 2 / 1.05) / 2) / 2, rel=1e-12)
    assert gradient[0] == [pytest.approx(-0.75 * up / 4), 0.0]
    assert gradient[1] == [pytest.approx(0.5 * 0.75 * down / 4), pytest.approx(1 / 4)]


def test_cispo_clips_the_weight_and_keeps_the_token():
    # Weights of 5 (8 is clipped) and 0.1 (nothing is below), log π = -2, four tokens.
    loss, gradient = evaluate(
        [[8.0, 8.0], [0.1, 1.0]], [1.0, -3.0], [[1.0, 0.0], [1.0, 0.5]], [[1.0, 1.0]] * 2, -2.0, objective="cispo"
    )
    assert loss == pytest.approx(-(5 * -2 + 0.1 * -3 * -2 + 1 * -1.5 * -2) / 4)
    assert gradient == [[pytest.approx(-5 / 4), 0.0], [pytest.approx(0.3 / 4), pytest.approx(1.5 / 4)]]


def test_dpo_weights_act_inside_the_log_ratios():
    # Rejected first. Weighted margins: ln 2 for the preferred, -ln 1.5 for the rejected: h = ln 3, σ(h) = 3/4.
    loss, gradient = evaluate(
        [[1 / 1.5, 9.0], [7.0, 4.0]],
        [-0.7, 0.7],
        [[1.0, 0.0], [0.0, 0.5]],
        [[1.0, 1.0]] * 2,
        objective="dpo",
        beta=1.0,
        pairs=torch.tensor([3, 3]),
    )
    assert loss == pytest.approx(math.log(4 / 3))
    assert gradient == [[pytest.approx(1 / 4), 0.0], [0.0, pytest.approx(-1 / 8)]]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"objective": "grpo"}, 2),
        ({"objective": "dapo"}, 4),
        ({"objective": "dapo", "length_norm": "weights"}, 2.5),
        ({"objective": "dr_grpo", "max_tokens": 8}, 16),
        ({"objective": "dpo", "pairs": torch.tensor([4, 4, 9])}, 1),
    ],
)
def test_what_a_batch_counts(options, count):
    weights, mask = (torch.tensor([*rows, [0.0] * 3]) for rows in (WEIGHTS, MASK))
    assert loss_count(weights, mask, **options).item() == count
    assert loss_count(weights.bfloat16(), mask, **options).item() == count


@pytest.mark.parametrize(("options", "divisor"), [({}, 2), ({"objective": "dapo"}, 3), ({"max_tokens": 8}, 16)])
def test_the_kl_is_averaged_as_the_objective_is_and_has_no_weights(options, divisor):
    # Ratios π_ref/π of 2 and of 1/2 in a row of two tokens and 2 in a row of one; NaN at padding.
    excess, deficit = 2 - math.log(2) - 1, 0.5 + math.log(2) - 1
    logps = torch.tensor([[0.0, 0.0], [0.0, float("nan")]], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([[2.0, 0.5], [2.0, float("nan")]], dtype=torch.float64).log()
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    if "max_tokens" in options:
        options = {"objective": "dr_grpo", **options}
    loss = kl_loss(logps, ref, mask, **options)
    loss.backward()
    by_length = 2 if divisor == 2 else 1
    assert loss.item() == pytest.approx(((excess + deficit) / by_length + excess) / divisor)
    expected = [[-1 / by_length, 0.5 / by_length], [-1.0, 0.0]]  # 1 - π_ref/π
    assert logps.grad.tolist() == [[pytest.approx(x / divisor) for x in row] for row in expected]


def test_a_kl_far_from_the_reference_is_finite():
    logps = torch.tensor([[-1000.0, 0.0]], requires_grad=True)
    kl_loss(logps, torch.tensor([[0.0, -1000.0]]), torch.ones(1, 2)).backward()
    assert torch.isfinite(logps.grad).all()


def test_a_repairs_ratio_is_the_papers_or_starts_at_one():
    logps = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]], requires_grad=True)
    old = torch.tensor([[-1.5, -2.5], [float("nan"), float("nan")]])
    is_repair = torch.tensor([False, True])
    torch.testing.assert_close(anchor_logps(logps, old, is_repair), old, equal_nan=True)
    anchors = anchor_logps(logps, old, is_repair, "one")
    assert anchors.tolist() == [[-1.5, -2.5], [-3.0, -4.0]]
    assert not anchors.requires_grad
    # The first update: the wrong answer's ratio is e^0.5, clipped to 1.2; the repair's is 1, whatever π_old was.
    ones = torch.ones(2, 2)
    loss = surrogate_loss(logps, anchors, torch.tensor([1.0, 1.0]), ones, ones)
    loss.backward()
    torch.testing.assert_close(loss.detach(), torch.tensor(-(1.2 + 1.0) / 2))
    assert logps.grad.tolist() == [[0.0, 0.0], [-0.25, -0.25]]


def test_wrong_use_of_kl_and_anchor_is_named():
    table, rows = torch.zeros(2, 3), torch.ones(2, dtype=torch.bool)
    with pytest.raises(DataError, match=r"ref_logps \(2, 2\).*same \(B, T\)"):
        kl_loss(table, table[:, :2], table)
    with pytest.raises(ConfigError, match=r"'dpo' .*do not add a KL"):
        kl_loss(table, table, table, "dpo")
    with pytest.raises(ConfigError, match="needs max_tokens"):
        kl_loss(table, table, table, "dr_grpo")
    with pytest.raises(ConfigError, match='"old" or "one"'):
        anchor_logps(table, table, rows, "new")
    with pytest.raises(DataError, match=r"is_repair \(3,\); give"):
        anchor_logps(table, table, torch.ones(3, dtype=torch.bool))
