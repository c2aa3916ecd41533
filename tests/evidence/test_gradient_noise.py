"""Noise and angles of gradients, on literal vectors and on draws of known noise."""

import pytest
import torch

from gradient_noise import cosine, flat_gradient, noise_figures


def test_noise_by_hand() -> None:
    result = noise_figures(torch.tensor([[3.0, 0.0], [1.0, 0.0], [2.0, 3.0]], dtype=torch.float64))
    # Means 2 and 1; variances 1 and 3.
    assert result["variance"] == pytest.approx(4.0)
    assert result["signal"] == pytest.approx(5.0 - 4.0 / 3)
    assert result["noise_scale"] == pytest.approx(4.0 / (5.0 - 4.0 / 3))


def test_noise_of_known_draws() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = 0.1 + torch.randn(400, 50, generator=generator, dtype=torch.float64)
    result = noise_figures(draws)
    assert result["variance"] == pytest.approx(50, rel=0.1)
    assert result["signal"] == pytest.approx(0.5, rel=0.5)


def test_gradients_are_flattened_in_order_with_zeros_for_none() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.Linear(1, 1, bias=False))
    model[0].weight.grad = torch.tensor([[1.0, 2.0]])
    assert flat_gradient(model).tolist() == [1.0, 2.0, 0.0]
    assert cosine(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])).item() == pytest.approx(2**-0.5)
