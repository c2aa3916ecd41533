"""Weights of a wrong answer's tokens from log-probabilities, without a repair. Beyond the paper.

A repair model that reads the wrong answer and a right one says how probable it finds each token of the wrong answer at
its place. Where it would write another token, it doubts this one.
"""

from typing import Literal, get_args

import numpy as np

from difference_feedback.method.masks import FloatArray

DraftWeights = Literal["log_ratio", "doubt"]
DRAFT_WEIGHTS: tuple[str, ...] = get_args(DraftWeights)
"""The values of the setting `weights` that score the wrong answer and make no repair."""


def draft_weights(repair_logps: FloatArray, policy_logps: FloatArray | None = None) -> FloatArray:
    """Weights `(T,)` in [0, 1] of a wrong answer's tokens: `log_ratio`, or without `policy_logps` `doubt`.

        log_ratio   1 - min(1, p_repair / p_policy): the share of its probability that the repair model takes away
        doubt       1 - p_repair: the probability that the repair model writes another token

    RLSD (arXiv 2604.03128) multiplies advantages by `p_repair / p_policy` or its inverse, by the sign of the advantage,
    clipped around 1, so that no token is left out. RLMEC (arXiv 2401.06081) takes a rewriting model's probabilities
    for token rewards. The weights here leave tokens out that the repair model would write again, as a mask does.

    Args:
        repair_logps: log-probabilities of the tokens under the repair prompt, `(T,)`, by the repair model.
        policy_logps: under the policy's own prompt, `(T,)`, by the policy.
    """
    ratio = repair_logps if policy_logps is None else repair_logps - policy_logps
    return (-np.expm1(np.minimum(ratio, 0.0))).astype(np.float32)  # exact near 0
