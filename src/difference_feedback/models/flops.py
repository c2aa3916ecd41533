"""Count floating-point operations: a measure of compute that does not depend on the machine's speed.

A matrix product of `(n, k)` and `(k, m)` takes `2 n k m` operations. Linear layers and convolutions are counted; on
short sequences they are nearly all of a transformer. Not counted: the products inside attention, norms, the optimiser.
A backward pass costs twice its forward pass (J. Kaplan et al., arXiv 2001.08361, Sec. 2.1).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

_running: list["FlopMeter"] = []


@dataclass
class Work:
    """Operations of forward and backward passes, and the generated tokens, including those after an answer's end."""

    forward: float = 0.0
    backward: float = 0.0
    generated_tokens: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(getattr(self, name) + getattr(other, name) for name in vars(self)))


class FlopMeter:
    """A context manager that counts in `work` what every model of this process computes.

    A forward pass with gradients is assumed to be followed by its backward pass.
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
            if logits is not None and logits.shape[1] == 1:  # logits of one position: a token is drawn next
                self.work.generated_tokens += len(logits)
        if not isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return
        flops = 2.0 * output.numel() * _products(module)
        self.work.forward += flops
        if torch.is_grad_enabled() and output.requires_grad:
            self.work.backward += 2 * flops


def count_generated(tokens: int) -> None:
    """Count tokens that a pass over several places has written: a pass over one place is counted by itself."""
    for meter in _running:
        if not meter._paused:
            meter.work.generated_tokens += tokens


@contextmanager
def uncounted() -> Iterator[None]:
    """No meter counts what is computed inside this context, for example an evaluation."""
    meters = list(_running)
    for meter in meters:
        meter._paused += 1
    try:
        yield
    finally:
        for meter in meters:
            meter._paused -= 1


def _products(module: Any) -> int:
    """Multiplications for each number of the output."""
    if isinstance(module, nn.Linear):
        return module.in_features
    return module.in_channels // module.groups * math.prod(module.kernel_size)
