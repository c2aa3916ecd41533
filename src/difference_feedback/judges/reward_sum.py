"""Several rewards as one grader: their weighted sum, and whether it is enough."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from difference_feedback.method.groups import least_right

RewardFunction = Callable[..., Sequence[float | None]]
"""As TRL calls it."""
Encode = Callable[[str], list[int]]


def _ignore(*_: Any) -> None:
    """TRL's functions to log with do nothing outside its trainer."""


def weighted_sums(functions: Sequence[RewardFunction], weights: Sequence[float], **batch: Any) -> list[float | None]:
    """The weighted sum of each answer's rewards. `batch` is what TRL gives to a reward function.

    It is None where a function gave no number, since the sum of the others is no verdict; but a function with a weight
    of 0 decides nothing.
    """
    batch = {"log_extra": _ignore, "log_metric": _ignore, "trainer_state": None} | batch
    rewards = np.array([function(**batch) for function in functions], dtype=np.float64)
    sums = np.nansum(rewards * np.array(weights)[:, None], axis=0)
    missing = np.isnan(rewards)
    unjudged = (missing & (np.array(weights)[:, None] != 0)).any(axis=0) | missing.all(axis=0)
    return [None if none else float(total) for none, total in zip(unjudged, sums, strict=True)]


@dataclass(frozen=True)
class RewardSum:
    """Reward functions and their weights. An answer is right from a sum of `threshold` on; it is unjudged where a
    function that decides has not judged it."""

    functions: tuple[RewardFunction, ...]
    weights: tuple[float, ...]
    threshold: float
    columns: Callable[[Any], dict[str, Any]]
    """A question -> the columns that its row has in training, `images` among them."""
    encode: Encode
    """The text of an answer -> tokens. TRL passes those that were sampled; here the text alone is known."""

    def reward(self, **batch: Any) -> list[float | None]:
        """`weighted_sums`, as TRL calls a reward function."""
        return weighted_sums(self.functions, self.weights, **batch)

    def grade(self, questions: Sequence[Any], responses: Sequence[str]) -> list[bool | None]:
        """Verdicts on responses to a data set's questions."""
        if not questions:
            return []
        rows = [self.columns(question) for question in questions]
        sums = self.reward(
            prompts=[question.prompt for question in questions],
            completions=[[{"role": "assistant", "content": response}] for response in responses],
            completion_ids=[self.encode(response) for response in responses],
            **{name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)},
        )
        return [None if value is None else value >= least_right(self.threshold) for value in sums]

    def is_right(self, question: Any, response: str) -> bool | None:
        """Whether one response is right; None: unjudged."""
        return self.grade([question], [response])[0]
