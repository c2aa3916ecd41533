"""Weighted advantages: exact zeros, and PPO untouched where answers are right."""

import pytest
import torch

from difference_feedback.errors import DataError
from difference_feedback.method.weighting import gate_advantages, ppo_weights


def test_group_advantages_are_spread_over_the_marked_tokens():
    weighted = gate_advantages(torch.tensor([-0.5, 2.0]), torch.tensor([[0.0, 1.0, 0.5], [1.0, 0.0, 0.0]]))
    assert weighted.tolist() == [[0.0, -0.5, -0.25], [2.0, 0.0, 0.0]]


def test_weight_zero_is_zero_whatever_the_advantage():
    weights = torch.zeros(3, 2)
    weighted = gate_advantages(torch.tensor([float("inf"), float("nan"), -1.0]), weights)
    assert torch.equal(weighted, torch.zeros(3, 2))
    assert not torch.signbit(weighted).any()


def test_ppo_keeps_correct_trajectories_whole():
    advantages = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    weights = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    weighted = gate_advantages(advantages, ppo_weights(weights, torch.tensor([True, False])))
    assert weighted.tolist() == [[1.0, -2.0], [0.0, 4.0]]


def test_with_every_answer_right_ppo_advantages_are_unchanged_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    advantages = torch.randn(5, 7, generator=generator)
    weights = torch.rand(5, 7, generator=generator)
    weights = ppo_weights(weights, torch.ones(5, dtype=torch.bool))
    assert torch.equal(gate_advantages(advantages, weights), advantages)


def test_shapes_are_checked():
    with pytest.raises(DataError, match=r"advantages have shape \(3,\) and weights \(2, 4\)"):
        gate_advantages(torch.zeros(3), torch.zeros(2, 4))
    with pytest.raises(DataError, match=r"\(2, 3\) and weights \(2, 4\)"):
        gate_advantages(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(DataError, match=r"correct \(3,\)"):
        ppo_weights(torch.zeros(2, 4), torch.zeros(3, dtype=torch.bool))
