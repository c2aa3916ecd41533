"""verl's own losses on weighted advantages equal the host-free specification, in value and gradient."""

import math
from typing import Any

import pytest
import torch

from difference_feedback.method.objectives import surrogate_loss
from difference_feedback.method.weighting import gate_advantages, ppo_weights

core_algos = pytest.importorskip("verl.trainer.ppo.core_algos", reason="verl has an environment of its own")
pytestmark = pytest.mark.verl

B, T, PADDING = 6, 7, 2
CASES = {
    # objective of the specification: (loss_mode, loss_agg_mode, clip low, clip high)
    "grpo": ("vanilla", "seq-mean-token-mean", 0.2, 0.2),
    "dapo": ("vanilla", "token-mean", 0.2, 0.28),
    "dr_grpo": ("vanilla", "seq-mean-token-sum-norm", 0.2, 0.2),
    "gspo": ("gspo", "seq-mean-token-mean", 3e-4, 4e-4),
}


def batch() -> dict[str, torch.Tensor]:
    """Off-policy rows of mixed length; the last are padding, as verl makes it: one token, masked out."""
    draw = torch.Generator().manual_seed(0)
    mask = torch.zeros(B + PADDING, T)
    for row, length in enumerate((7, 3, 5, 1, 6, 4)):
        mask[row, :length] = 1
    logps = -torch.rand(B + PADDING, T, generator=draw, dtype=torch.float64) - 0.1
    old = logps + 0.3 * torch.randn(B + PADDING, T, generator=draw, dtype=torch.float64)
    weights = (torch.rand(B + PADDING, T, generator=draw) < 0.4).double() * mask
    advantages = torch.tensor([0.7, -0.7, 0.9, -0.4, -0.5, 1.1, 0.0, 0.0], dtype=torch.float64)
    return {"logps": logps, "old": old, "weights": weights, "advantages": advantages, "mask": mask}


@pytest.mark.parametrize("objective", CASES)
def test_verls_loss_is_the_specification(objective: str) -> None:
    from verl.workers.config import ActorConfig

    mode, aggregation, low, high = CASES[objective]
    data = batch()
    config = ActorConfig(
        strategy="fsdp2",
        rollout_n=1,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio=low,
        clip_ratio_low=low,
        clip_ratio_high=high,
        clip_ratio_c=1e6,  # dual clipping is verl's own addition to PPO
        loss_agg_mode=aggregation,
        loss_scale_factor=T if objective == "dr_grpo" else None,
    )
    config.global_batch_info.update(
        dp_size=1,
        batch_num_tokens=data["mask"].sum().item(),
        global_batch_size=float(B),  # real rows, as the trainer sets it
        loss_scale_factor=config.loss_scale_factor,
    )
    mine, theirs = (data["logps"].clone().requires_grad_() for _ in range(2))
    loss, _ = core_algos.get_policy_loss_fn(mode)(
        old_log_prob=data["old"],
        log_prob=theirs,
        advantages=gate_advantages(data["advantages"], data["weights"]),
        response_mask=data["mask"].bool(),
        loss_agg_mode=aggregation,
        config=config,
    )
    options: dict[str, Any] = {"max_tokens": T} if objective == "dr_grpo" else {}
    expected = surrogate_loss(
        *(mine, data["old"], data["advantages"], data["weights"], data["mask"], objective, low, high), **options
    )
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(theirs.grad, mine.grad, rtol=1e-6, atol=1e-9)
    assert theirs.grad is not None
    assert (theirs.grad[data["weights"] == 0] == 0).all()
    assert (theirs.grad != 0).sum() > 3


def test_gae_is_whitened_before_the_weights() -> None:
    """Whitening first: unweighted tokens end at exactly 0, and with every answer right DF-PPO is PPO, bit for bit.

    The other order would subtract a mean from the zeros, and so give every unweighted token an advantage again.
    """
    data = batch()
    values, rewards = data["logps"] * 0.1, torch.zeros_like(data["logps"])
    rewards[:B, 0] = torch.tensor([1, 0, 1, 0, 0, 1], dtype=torch.float64)
    whitened, _ = core_algos.compute_gae_advantage_return(rewards, values, data["mask"], gamma=1.0, lam=0.95)
    correct = torch.tensor([True, False, True, False, False, True, False, False])
    weighted = gate_advantages(whitened, ppo_weights(data["weights"], correct))
    wrong = ~correct
    assert (weighted[wrong][data["weights"][wrong] == 0] == 0).all()
    assert torch.equal(weighted[correct], whitened[correct])
    assert torch.equal(gate_advantages(whitened, ppo_weights(data["weights"], torch.ones_like(correct))), whitened)
    mean = float((whitened * data["mask"]).sum() / data["mask"].sum())
    assert math.isclose(mean, 0, abs_tol=1e-6)
