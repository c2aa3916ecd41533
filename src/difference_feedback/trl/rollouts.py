"""What a generation step sampled: this rank's answers, and every rank's rewards and texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from difference_feedback.errors import DataError


@dataclass(frozen=True)
class Rollouts:
    """`n` answers of this rank out of `N` of all ranks; row `i` here is row `offset + i` there."""

    examples: list[dict[str, Any]]
    """Rows of the data set."""
    prompts: list[list[dict[str, Any]]]
    """Chat conversations with the images inside."""
    completions: list[Any]
    completion_ids: list[list[int]]
    """As sampled, the end-of-sequence token included when it was sampled."""
    rewards: npt.NDArray[np.float64]
    """`(N,)`, the weighted sum over the reward functions; NaN where none of them gave a number: unjudged."""
    offset: int

    @property
    def own_rewards(self) -> npt.NDArray[np.float64]:
        """`(n,)`"""
        return self.rewards[self.offset : self.offset + len(self.prompts)]

    @property
    def texts(self) -> list[str]:
        return [c if isinstance(c, str) else str(c[-1]["content"]) for c in self.completions]


def total_rewards(rewards_per_func: torch.Tensor, reward_weights: torch.Tensor) -> npt.NDArray[np.float64]:
    """`(N, F)` rewards -> `(N,)` weighted sums. A row without a single number is NaN, as in TRL."""
    totals = (rewards_per_func * reward_weights.to(rewards_per_func.device)).nansum(dim=1)
    totals[torch.isnan(rewards_per_func).all(dim=1)] = torch.nan
    return totals.double().cpu().numpy()


def annotated_answers(examples: Sequence[dict[str, Any]], column: str | None) -> list[str | None]:
    """The annotated answer of each row; None where there is none. Raises `DataError` when the column is missing."""
    if column is None:
        return [None] * len(examples)
    if examples and column not in examples[0]:
        raise DataError(f"answer_column={column!r} is no column of the data set; it has {', '.join(examples[0])}.")
    return [None if example[column] is None else str(example[column]) for example in examples]
