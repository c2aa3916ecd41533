"""Confidence intervals of measured shares, and of their mean."""

import math
from collections.abc import Sequence


def wilson_interval(successes: float, trials: float, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share, 95 % by default (E. B. Wilson, JASA 22, 1927); `(0, 1)` without trials."""
    if not trials:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def mean_interval(shares: Sequence[tuple[float, int]], z: float = 1.959964) -> tuple[float, float]:
    """The interval of the plain mean of shares that were measured apart, each with its trials, 95 % by default.

    Each share's variance is that of Agresti and Coull (The American Statistician 52, 1998), which is not 0 where all
    answers are right; the mean is taken as normal. `(0, 1)` where a share has no trials.
    """
    if not shares or not all(trials for _, trials in shares):
        return 0.0, 1.0
    variance = 0.0
    for share, trials in shares:
        enlarged = trials + z * z
        centre = (share * trials + z * z / 2) / enlarged
        variance += centre * (1 - centre) / enlarged
    mean = sum(share for share, _ in shares) / len(shares)
    half = z * math.sqrt(variance) / len(shares)
    return max(0.0, mean - half), min(1.0, mean + half)


def clustered_interval(clusters: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """The 95 % interval of a share whose trials come in clusters that are alike, each with its successes and trials.

    Repairs of one wrong answer, or of answers to one question, often fail together. The interval is Wilson's, with as
    many trials as would give the variance between the clusters: at most all, and at least as many as there were if all
    trials of a cluster were one (L. Kish, "Survey sampling", 1965). `(0, 1)` without trials.
    """
    clusters = [(successes, trials) for successes, trials in clusters if trials]
    total = sum(trials for _, trials in clusters)
    if not total:
        return 0.0, 1.0
    share = sum(successes for successes, _ in clusters) / total
    number = len(clusters)
    effective = total**2 / sum(trials**2 for _, trials in clusters)
    if number > 1 and 0 < share < 1:
        squares = sum((successes - share * trials) ** 2 for successes, trials in clusters)
        variance = squares * number / (number - 1) / total**2
        effective = min(max(share * (1 - share) / variance, effective), total) if variance else total
    return wilson_interval(share * effective, effective)
