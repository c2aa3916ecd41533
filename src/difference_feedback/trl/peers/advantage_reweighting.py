"""Advantage Reweighting: improbable tokens count less. [arXiv 2505.12929, "Do Not Let Low-Probability Tokens..."]

The gradient of a token's log-probability grows as the token's probability falls, so that a few improbable tokens decide
an update. The advantage of each token, of right and wrong answers alike, is multiplied by

    alpha * pi_old(o_t) + (1 - alpha),

with the probability under the policy that sampled it. It has no gradient, and needs no further forward pass.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from difference_feedback.errors import ConfigError
from difference_feedback.method.settings import option
from difference_feedback.trl.config import LeanGRPOConfig
from difference_feedback.trl.peers.token_ratios import refuse_sequence_ratios
from difference_feedback.trl.resume import ExactResume


@dataclass
class ARGRPOConfig(LeanGRPOConfig):
    """TRL's `GRPOConfig` with the strength of the reweighting."""

    ar_alpha: float = option(0.2, "Strength, 0 to 1. 0: plain GRPO. 0.2 is that of the authors' own script.")

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_sequence_ratios(self)
        if not 0.0 <= self.ar_alpha <= 1.0:
            raise ConfigError(f"ar_alpha={self.ar_alpha}: give a strength from 0 to 1.")


def reweighted(advantages: torch.Tensor, logps: torch.Tensor, alpha: float) -> torch.Tensor:
    """Advantages `(B,)` or `(B, T)` times `alpha pi + 1 - alpha`, `(B, T)`; `logps` `(B, T)` are natural logarithms."""
    if advantages.dim() == 1:
        advantages = advantages.unsqueeze(1)
    return advantages * (alpha * logps.detach().exp() + (1.0 - alpha))


class ARGRPOTrainer(ExactResume):
    """`GRPOTrainer` with reweighted advantages. `args` is an `ARGRPOConfig`."""

    args: ARGRPOConfig
    _loss_inputs: dict[str, Any] | None = None
    """Set while TRL computes the loss: it reads the advantages after the log-probabilities."""

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        self._loss_inputs = dict(inputs)  # later updates on these answers start from the advantages as they are
        try:
            return super()._compute_loss(model, self._loss_inputs)
        finally:
            self._loss_inputs = None

    def _get_per_token_logps_and_entropies(
        self, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        logps, entropies, loss = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if (inputs := self._loss_inputs) is not None:
            old = inputs.get("old_per_token_logps")
            inputs["advantages"] = reweighted(inputs["advantages"], logps if old is None else old, self.args.ar_alpha)
        return logps, entropies, loss
