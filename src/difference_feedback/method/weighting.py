"""Put the weights onto the advantages, in the same way for every objective. [DF, Eqs. 10, 19-21, 26-27]"""

import torch
from torch import Tensor

from difference_feedback.errors import DataError


def gate_advantages(advantages: Tensor, weights: Tensor) -> Tensor:
    """`Â_{i,t} = w_{i,t} Â_i`, `(B, T)`. [DF, Eqs. 10, 19-21]

    `weights` are those of the row's own side: `m` for a wrong answer, `m̃` for a repair. Where a weight is 0 the result
    is 0 whatever the advantage, infinities and NaN included. The result has the type of the advantages; where they are
    integers, it has that of the weights, or float32, since a weight below 1 times an integer is no integer.

    Args:
        advantages: `(B,)`, one for each row, or `(B, T)`, one for each token.
        weights: `(B, T)`.

    Raises:
        DataError: the shapes do not fit.
    """
    per_token = advantages.unsqueeze(1) if advantages.dim() == 1 else advantages
    if weights.dim() != 2 or per_token.dim() != 2 or per_token.shape not in (weights.shape, (len(weights), 1)):
        raise DataError(
            f"advantages have shape {tuple(advantages.shape)} and weights {tuple(weights.shape)}; "
            "give (B,) or (B, T) advantages with (B, T) weights"
        )
    if not per_token.is_floating_point():
        per_token = per_token.to(weights.dtype if weights.is_floating_point() else torch.float32)
    return torch.where(weights == 0, torch.zeros_like(per_token), per_token * weights.to(per_token.dtype))


def ppo_weights(weights: Tensor, correct: Tensor) -> Tensor:
    """`w_t = 1` where the trajectory is correct, else `m_t`, `(B, T)`. [DF, Eq. 26]

    `gate_advantages` puts them onto a critic's advantages [DF, Eq. 27]. Correct trajectories keep their whole signal:
    PPO has a critic, and no group in which repairs could stand for them.

    Args:
        weights: `(B, T)`; those of correct trajectories are not read.
        correct: boolean `(B,)`, whether `R >= τ`.
    """
    if weights.dim() != 2 or correct.shape != weights.shape[:1]:
        raise DataError(
            f"weights have shape {tuple(weights.shape)} and correct {tuple(correct.shape)}; give (B, T) and (B,)"
        )
    return torch.where(correct.bool().unsqueeze(1), torch.ones_like(weights), weights)
