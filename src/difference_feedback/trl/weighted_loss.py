"""Weights in TRL's loss: onto advantages, and onto gradients where ratios are per sequence. [DF, Eqs. 10-23]

Token-level ratios (GRPO, DAPO, Dr. GRPO, SAPO, CISPO). TRL's loss takes advantages `(B, T)`, so it gets `w_t A`. The KL
has no advantage in it and stays unweighted.

Sequence-level ratios (GSPO). The ratio `s = exp(mean_t(log pi_t - log pi_old_t))` carries gradient into every token,
whatever the advantages are. With the advantage `mean(w) A`, and the gradient of each `log pi_t` multiplied by
`g_t = w_t / mean(w)` while its value is kept,

    mean(w) A s = mean_t(w_t A s)    and    d/dθ (mean(w) A s) = mean(w) A s mean_t(g_t ∇log pi_t)
                                                               = mean_t(w_t A s ∇log pi_t),

the weighted form of GSPO's stop-gradient token objective, in value and in gradient.
"""

from typing import Any

import torch

from difference_feedback.method.objectives import RepairedRatio, anchor_logps
from difference_feedback.method.weighting import gate_advantages


def mean_weights(weights: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`mean(w)` over the tokens of each row, `(B, 1)`; 0 for rows without tokens."""
    return (weights * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)


def normalised_weights(weights: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`w_t / mean(w)`, `(B, T)`; 0 in rows whose weights are all 0."""
    mean = mean_weights(weights, mask)
    return torch.where(mean > 0, weights / torch.where(mean > 0, mean, 1.0), 0.0)


def weighted_advantages(
    advantages: torch.Tensor, weights: torch.Tensor, mask: torch.Tensor, *, sequence_ratio: bool, by_weights: bool
) -> torch.Tensor:
    """Advantages `(B, T)` for token-level ratios; `(B,)` for sequence-level ones, where `WeightedLoss.apply` follows.

    `by_weights`: TRL's division by a row's tokens becomes one by the sum of its weights.
    """
    if not sequence_ratio:
        return gate_advantages(advantages, normalised_weights(weights, mask) if by_weights else weights)
    mean = mean_weights(weights, mask).squeeze(1)
    return advantages * ((mean > 0).to(mean.dtype) if by_weights else mean)


class WeightedLoss:
    """One computation of TRL's loss: the inputs that it reads, and the gradients of its log-probabilities.

    `buffered` is TRL's batch, `(B, T)` and `(B,)` tensors, which every update on it reads again. `by_weights` divides
    each row by the sum of its weights and not by its number of tokens.
    """

    def __init__(
        self, buffered: dict[str, Any], sequence_ratio: bool, by_weights: bool, repaired_ratio: RepairedRatio = "old"
    ) -> None:
        weights, mask, advantages = buffered["weights"], buffered["completion_mask"], buffered["advantages"]
        weighted = weighted_advantages(advantages, weights, mask, sequence_ratio=sequence_ratio, by_weights=by_weights)
        self.inputs = buffered | {"advantages": weighted}
        self._factors = normalised_weights(weights, mask) if sequence_ratio else None
        self._buffered = buffered
        self._anchors = repaired_ratio == "one" and "is_repair" in buffered and not buffered.get("anchored")

    def apply(self, logps: torch.Tensor) -> torch.Tensor:
        """The log-probabilities `(B, T)` with weighted gradients; their values stay."""
        if self._anchors and "old_per_token_logps" in self.inputs:
            old = anchor_logps(logps, self.inputs["old_per_token_logps"], self.inputs["is_repair"], "one")
            self.inputs["old_per_token_logps"] = old
            self._buffered |= {"old_per_token_logps": old, "anchored": True}
        if self._factors is None:
            return logps
        weighted = logps.detach() + self._factors * (logps - logps.detach())
        if "ref_per_token_logps" in self.inputs:
            # The KL is a function of `reference - logps`. The added term keeps the weights out of that difference: its
            # value is 0, and its gradient is what the weights took away.
            self.inputs["ref_per_token_logps"] = self.inputs["ref_per_token_logps"] + (weighted - logps)
        return weighted
