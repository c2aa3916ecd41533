"""Gradients as vectors: their noise over resampled batches, and their angles."""

from typing import Any

import torch


def flat_gradient(model: Any) -> torch.Tensor:
    """The gradient of all parameters, `(P,)` in float64; 0 where a parameter has none."""
    return torch.cat(
        [
            (torch.zeros_like(p) if p.grad is None else p.grad).detach().double().flatten()
            for p in model.parameters()
            if p.requires_grad
        ]
    )


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of the angle between two gradients `(P,)`; 0 where one of them is 0."""
    return torch.nn.functional.cosine_similarity(a, b, dim=0)


def noise_figures(gradients: torch.Tensor) -> dict[str, float]:
    """Signal and noise of gradients `(R, P)` of `R` batches that differ in their answers alone.

    `variance` is the trace of their covariance, `signal` the squared norm of the mean with the noise of that mean taken
    off (never below 0), `noise_scale` the first by the second: how many batches make signal and noise equal; infinite
    where no signal is seen. Needs two batches at least.
    """
    variance = float(gradients.var(dim=0, unbiased=True).sum())
    signal = max(0.0, float(gradients.mean(dim=0).square().sum()) - variance / len(gradients))
    return {
        "batches": len(gradients),
        "variance": variance,
        "signal": signal,
        "noise_scale": variance / signal if signal else float("inf"),
    }
