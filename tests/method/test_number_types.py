"""Numbers of every type give what they give as float64, to the precision of the result's type."""

import numpy as np
import pytest
import torch

from difference_feedback.method.ablations import ABLATIONS, ablated_weights
from difference_feedback.method.groups import group_advantages, overlong_penalty, pair_group, split_by_reward
from difference_feedback.method.masks import pad_weights
from difference_feedback.method.objectives import OBJECTIVES, anchor_logps, kl_loss, loss_count, surrogate_loss
from difference_feedback.method.weighting import gate_advantages, ppo_weights

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
TYPES = (*FLOATS, *INTEGERS)
# Values that every one of these types holds exactly, so that only the arithmetic can differ.
ADVANTAGES = torch.tensor([1, 0, 1, 1])
WEIGHTS = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 0, 0], [1, 1, 1]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]])
SOFT = torch.tensor([[1.0, 0.5, 0.25], [0.125, 1.0, 0.0], [0.75, 0.0, 0.0], [0.5, 0.5, 1.0]])
LOGPS = torch.tensor([[-1.0, -0.5, -2.0], [-0.25, -1.5, 0.0], [-3.0, 0.0, 0.0], [-1.0, -1.0, -1.0]])
PAIRS, SIGNS = torch.tensor([0, 0, 1, 1]), torch.tensor([1, -1, 1, -1])


def close(result, expected):
    assert result.is_floating_point()
    precision = torch.finfo(result.dtype).eps
    torch.testing.assert_close(result.double(), expected.double(), rtol=8 * precision, atol=8 * precision)


@pytest.mark.parametrize("of_weights", FLOATS)
@pytest.mark.parametrize("of_advantages", TYPES)
def test_soft_weights_act_on_advantages_of_every_type(of_advantages, of_weights):
    expected = gate_advantages(ADVANTAGES.double(), SOFT.double())
    weighted = gate_advantages(ADVANTAGES.to(of_advantages), SOFT.to(of_weights))
    close(weighted, expected)
    assert (weighted != 0).equal(expected != 0)
    per_token = ADVANTAGES.unsqueeze(1).expand(-1, 3).to(of_advantages)
    assert gate_advantages(per_token, SOFT.to(of_weights)).equal(weighted)


@pytest.mark.parametrize("of_weights", TYPES)
@pytest.mark.parametrize("of_advantages", TYPES)
def test_hard_weights_of_every_type(of_advantages, of_weights):
    close(
        gate_advantages(ADVANTAGES.to(of_advantages), WEIGHTS.to(of_weights)),
        gate_advantages(ADVANTAGES.double(), WEIGHTS.double()),
    )
    whole = ppo_weights(WEIGHTS.to(of_weights), ADVANTAGES.to(of_advantages))
    assert whole.double().equal(ppo_weights(WEIGHTS.double(), ADVANTAGES.bool()))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_takes_every_type(name, kind):
    more = {"dr_grpo": {"max_tokens": 4.0}, "dpo": {"pairs": PAIRS}}.get(name, {})
    signs = SIGNS if name == "dpo" else ADVANTAGES
    if name == "dpo" and kind in (torch.bool, torch.uint8):
        kind = torch.int64  # those have no number below 0

    def loss(mask, weights, advantages):
        return surrogate_loss(LOGPS.double(), LOGPS.double() - 0.125, advantages, weights, mask, name, **more)

    expected = loss(MASK.double(), WEIGHTS.double(), signs.double())
    assert loss(MASK.to(kind), WEIGHTS.to(kind), signs.to(kind)).equal(expected)
    count = loss_count(WEIGHTS.to(kind), MASK.to(kind), name, **more)
    assert count.double().equal(loss_count(WEIGHTS.double(), MASK.double(), name, **more).double())


@pytest.mark.parametrize("kind", TYPES)
def test_log_probabilities_of_every_type(kind):
    whole = LOGPS.round() if kind not in FLOATS else LOGPS
    if kind in (torch.bool, torch.uint8):
        whole = torch.zeros_like(LOGPS)  # there is no other log-probability of this type
    repairs = torch.tensor([True, False, True, False])
    close(
        surrogate_loss(LOGPS, whole.to(kind), ADVANTAGES, SOFT, MASK),
        surrogate_loss(LOGPS.double(), whole.double(), ADVANTAGES.double(), SOFT.double(), MASK),
    )
    close(kl_loss(LOGPS, whole.to(kind), MASK), kl_loss(LOGPS.double(), whole.double(), MASK))
    close(
        anchor_logps(LOGPS, whole.to(kind), repairs, "one"),
        anchor_logps(LOGPS.double(), whole.double(), repairs, "one"),
    )


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int8, np.int64, np.float16, np.float32, np.float64, object])
def test_rewards_and_masks_of_every_type(kind):
    rewards = np.array([1, 0, 0, 1]).astype(kind)
    expected = np.array([1.0, 0.0, 0.0, 1.0])
    assert group_advantages(rewards, [0, 0, 1, 1]).tolist() == group_advantages(expected, [0, 0, 1, 1]).tolist()
    assert [part.tolist() for part in split_by_reward(rewards)] == [part.tolist() for part in split_by_reward(expected)]
    group = pair_group(rewards, {1: rewards[0], 2: rewards[3]})
    assert group.advantages().tolist() == pair_group(expected, {1: 1.0, 2: 1.0}).advantages().tolist()
    assert pad_weights([rewards]).tolist() == pad_weights([expected]).tolist()
    lengths = np.array([1, 5, 7]).astype(kind if kind is not bool else np.int8)
    assert overlong_penalty(lengths, 8, 4).tolist() == overlong_penalty(np.array([1.0, 5.0, 7.0]), 8, 4).tolist()
    for name in ABLATIONS:
        drawn = ablated_weights(name, rewards, rewards, np.random.default_rng(0))
        wanted = ablated_weights(
            name, expected.astype(np.float32), expected.astype(np.float32), np.random.default_rng(0)
        )
        assert [side.tolist() for side in drawn] == [side.tolist() for side in wanted]
