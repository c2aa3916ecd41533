"""Agreement of an auditor with human reviewers: raw, and Cohen's kappa, which takes out what chance would give.

J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20 (1960).
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from difference_feedback.errors import DataError
from difference_feedback.judges.intervals import wilson_interval
from difference_feedback.runs.jsonl import read_jsonl

RESAMPLES = 2000


@dataclass(frozen=True)
class Agreement:
    """Of two lists of verdicts on the same repairs. Intervals are of 95 %."""

    n: int
    raw: float
    raw_interval: tuple[float, float]
    """Wilson's."""
    kappa: float | None
    """None where it is not defined: both have given one and the same verdict throughout."""
    kappa_interval: tuple[float, float] | None
    """Of the percentiles of a bootstrap over repairs."""
    confusion: dict[str, dict[str, int]]
    """Auditor's verdict -> reviewer's -> how often."""


def agreement(auditor: Sequence[str], human: Sequence[str], *, seed: int = 0) -> Agreement:
    """Compare verdicts, one of each for every repair.

    Raises `DataError` for lists of different lengths, or empty ones.
    """
    if len(auditor) != len(human) or not len(auditor):
        raise DataError(f"there are {len(auditor)} verdicts of the auditor and {len(human)} of reviewers; give pairs")
    names = sorted(set(auditor) | set(human))
    places = {name: i for i, name in enumerate(names)}
    pairs = np.array([(places[a], places[h]) for a, h in zip(auditor, human, strict=True)])
    table = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(table, (pairs[:, 0], pairs[:, 1]), 1)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(pairs), (table / len(pairs)).ravel(), RESAMPLES).reshape(RESAMPLES, *table.shape)
    resampled = [k for k in map(cohens_kappa, drawn) if not math.isnan(k)]
    kappa = cohens_kappa(table)
    low, high = np.percentile(resampled, [2.5, 97.5]) if resampled else (math.nan, math.nan)
    same = int(np.trace(table))
    return Agreement(
        n=len(pairs),
        raw=same / len(pairs),
        raw_interval=wilson_interval(same, len(pairs)),
        kappa=None if math.isnan(kappa) else kappa,
        kappa_interval=None if math.isnan(kappa) else (float(low), float(high)),
        confusion={
            a: {h: int(table[i, j]) for j, h in enumerate(names) if table[i, j]}
            for i, a in enumerate(names)
            if table[i].any()
        },
    )


def cohens_kappa(table: np.ndarray) -> float:
    """`(p_o - p_e) / (1 - p_e)` of a confusion table `(C, C)`; NaN where chance alone would always agree."""
    total = table.sum()
    observed = np.trace(table) / total
    expected = float(table.sum(0) @ table.sum(1)) / total**2
    return math.nan if expected == 1 else float((observed - expected) / (1 - expected))


def run_agreement(audits: Path, reviews: Path) -> Agreement | None:
    """Of a run's audits with its reviews, every reviewer's last word on each; None where no repair has both.

    Rows that cannot be read are left out with a warning that counts them.
    """
    rows, bad = read_jsonl(audits)
    verdicts = {row.values["id"]: row.values["verdict"] for row in rows if row.values.get("verdict")}
    found, worse = read_jsonl(reviews)
    if bad or worse:
        warnings.warn(f"{audits.parent}: {len(bad) + len(worse)} rows of audits and reviews left out", stacklevel=2)
    words = {(row.values.get("id"), row.values.get("annotator")): row.values.get("verdict") for row in found}
    both = [(verdicts[name], verdict) for (name, _), verdict in words.items() if name in verdicts and verdict]
    return agreement([a for a, _ in both], [h for _, h in both]) if both else None
