"""Floating-point operations, counted where they happen: the measure of compute that no machine's speed is in.

A matrix product of `(n, k)` and `(k, m)` is `2 n k m` operations. Counted are linear layers and convolutions, which are
nearly all of a transformer on short sequences; the products of attention itself, norms and the optimiser are left out.
A backward pass costs twice its forward pass (J. Kaplan et al., arXiv 2001.08361, Sec. 2.1).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

_running: list["FlopMeter"] = []


@dataclass
class Work:
    """What was computed: operations forward and backward, and tokens generated (those after an answer's end too)."""

    forward: float = 0.0
    backward: float = 0.0
    generated_tokens: int = 0

    @property
    def total(self) -> float:
        return self.forward + self.backward

    def __add__(self, other: "Work") -> "Work":
        return Work(*(getattr(self, name) + getattr(other, name) for name in vars(self)))

    def summary(self) -> dict[str, float]:
        return asdict(self) | {"total": self.total}


class FlopMeter:
    """Counts the work of every model of this process, in `work`, while it is entered.

    Where a forward pass is made with gradients, its backward pass is taken to follow.
    """

    def __init__(self) -> None:
        self.work = Work()
        self._paused = 0

    def __enter__(self) -> "FlopMeter":
        self._hook = register_module_forward_hook(self._count)
        _running.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        _running.remove(self)
        self._hook.remove()

    def _count(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self._paused:
            return
        if "lm_head" in module._modules and not torch.is_grad_enabled():
            logits = getattr(output, "logits", None)
            if logits is not None and logits.shape[1] == 1:  # of the last position alone: a token is about to be drawn
                self.work.generated_tokens += len(logits)
        if not isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return
        flops = 2.0 * output.numel() * _products(module)
        self.work.forward += flops
        if torch.is_grad_enabled() and output.requires_grad:
            self.work.backward += 2 * flops


@contextmanager
def uncounted() -> Iterator[None]:
    """What is computed inside, such as an evaluation, counts for no meter."""
    meters = list(_running)
    for meter in meters:
        meter._paused += 1
    try:
        yield
    finally:
        for meter in meters:
            meter._paused -= 1


def _products(module: Any) -> int:
    """Multiplications for one number of the output."""
    if isinstance(module, nn.Linear):
        return module.in_features
    return module.in_channels // module.groups * math.prod(module.kernel_size)
