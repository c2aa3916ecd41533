"""Mask ablations: other weights in the place of a pair's masks, to find out whether it is the masks that help.

Each takes the weights of a wrong answer, `(T,)`, and of its repair, `(T̃,)`, and returns weights of the same shapes. All
but `inverted` keep the number of marked tokens of a side, or clear a whole side: they change *which* tokens are marked.
None of them is the method; they are ours, beyond the paper.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from difference_feedback.errors import ConfigError
from difference_feedback.method.masks import FloatArray


class PairWeights(NamedTuple):
    """The weights of one pair: weights of the wrong answer, `(T,)`, and of its repair, `(T̃,)`."""

    wrong: FloatArray
    repair: FloatArray


def random_tokens(wrong: FloatArray, repair: FloatArray, rng: np.random.Generator) -> PairWeights:
    """The same weights on tokens drawn at random: density kept, place lost."""
    return PairWeights(rng.permutation(wrong), rng.permutation(repair))


def inverted(wrong: FloatArray, repair: FloatArray, rng: np.random.Generator) -> PairWeights:
    """`1 - w`: the update goes to the tokens that the method leaves alone."""
    return PairWeights(1 - wrong, 1 - repair)


def wrong_only(wrong: FloatArray, repair: FloatArray, rng: np.random.Generator) -> PairWeights:
    """The wrong answer alone moves the policy; its repair stays in the group for its reward."""
    return PairWeights(wrong, np.zeros_like(repair))


def repair_only(wrong: FloatArray, repair: FloatArray, rng: np.random.Generator) -> PairWeights:
    """The repair alone moves the policy; the wrong answer stays in the group for its reward."""
    return PairWeights(np.zeros_like(wrong), repair)


ABLATIONS: dict[str, Callable[[FloatArray, FloatArray, np.random.Generator], PairWeights]] = {
    "random": random_tokens,
    "inverted": inverted,
    "wrong_only": wrong_only,
    "repair_only": repair_only,
}
"""By the names that the setting `weights` has for them."""


def ablated_weights(name: str, wrong: FloatArray, repair: FloatArray, rng: np.random.Generator) -> PairWeights:
    """The weights of one pair under the ablation `name`; "mask" leaves them as they are.

    Raises:
        ConfigError: an unknown ablation.
    """
    if name == "mask":
        return PairWeights(wrong, repair)
    if name not in ABLATIONS:
        raise ConfigError(f"weights={name!r}: choose one of mask, {', '.join(ABLATIONS)}.")
    return ABLATIONS[name](wrong, repair, rng)
