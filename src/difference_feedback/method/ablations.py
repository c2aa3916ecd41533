"""Mask ablations: other weights in the place of a pair's masks, to find out whether it is the masks that help.

All but `inverted` keep the number of marked tokens of a side, or clear a whole side: they change *which* tokens are
marked. None of them is the method; they are ours, beyond the paper.
"""

from typing import NamedTuple

import numpy as np

from difference_feedback.errors import ConfigError
from difference_feedback.method.masks import FloatArray

ABLATIONS = ("random", "inverted", "wrong_only", "repair_only")
"""Their names in the setting `weights`."""


class PairWeights(NamedTuple):
    """The weights of one pair: those of the wrong answer, `(T,)`, and of its repair, `(T̃,)`."""

    wrong: FloatArray
    repair: FloatArray


def ablated_weights(name: str, wrong: FloatArray, repair: FloatArray, rng: np.random.Generator) -> PairWeights:
    """The weights of one pair under the ablation `name`; "mask" leaves them as they are.

    Raises:
        ConfigError: an unknown ablation.
    """
    if name == "mask":
        return PairWeights(wrong, repair)
    wrong, repair = np.asarray(wrong, np.float32), np.asarray(repair, np.float32)  # a mask of bools has no 1 - m
    match name:
        case "random":  # as many marked tokens, in other places
            return PairWeights(rng.permutation(wrong), rng.permutation(repair))
        case "inverted":  # the update goes to the tokens that the method leaves alone
            return PairWeights(1 - wrong, 1 - repair)
        case "wrong_only":  # the repair stays in the group for its reward
            return PairWeights(wrong, np.zeros_like(repair))
        case "repair_only":
            return PairWeights(np.zeros_like(wrong), repair)
    raise ConfigError(f"weights={name!r}: choose one of mask, {', '.join(ABLATIONS)}.")
