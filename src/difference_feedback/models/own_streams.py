"""Draw the tokens of every row by numbers of its own, so that no draw depends on the rows beside it."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import LogitsProcessor


def own_numbers(seeds: Sequence[int], num_samples: int, max_new_tokens: int) -> torch.Tensor:
    """The numbers in [0, 1) of the rows, `(len(seeds) * num_samples, max_new_tokens)`: one for each token of a row."""
    streams = [np.random.default_rng([seed, k]).random(max_new_tokens) for seed in seeds for k in range(num_samples)]
    return torch.from_numpy(np.stack(streams))


def drawn(scores: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Scores `(B, V)` and a number for each row, `(B,)` -> tokens `(B,)`.

    A draw inverts the row's cumulative distribution, so it needs one number, whatever the batch and the device.
    """
    total = scores.float().softmax(-1).double().cumsum(-1)
    token = torch.searchsorted(total, numbers[:, None].to(total.device) * total[:, -1:], right=True)
    return token.squeeze(1).clamp_(max=scores.shape[1] - 1)


class DrawnByNumbers(LogitsProcessor):
    """Draws every row's tokens by its numbers, and leaves `generate` the drawn token alone to choose."""

    def __init__(self, numbers: torch.Tensor, temperature: float = 1.0) -> None:
        """`numbers` `(B, T)` in [0, 1): one for each token of a row."""
        self.numbers = numbers
        self.temperature = temperature
        self.step = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Scores `(B, V)` -> 0 at the drawn token, minus infinity elsewhere."""
        token = drawn(scores.float() / self.temperature, self.numbers[:, self.step])
        self.step += 1
        return torch.full_like(scores, -torch.inf).scatter_(1, token[:, None], 0.0)  # type: ignore[return-value]


class OwnStreams(DrawnByNumbers):
    """`DrawnByNumbers` of streams that start at a seed for each prompt, one for each of its samples."""

    def __init__(self, seeds: Sequence[int], num_samples: int, max_new_tokens: int, temperature: float) -> None:
        super().__init__(own_numbers(seeds, num_samples, max_new_tokens), temperature)
