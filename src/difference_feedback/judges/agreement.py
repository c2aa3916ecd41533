"""Agreement of an auditor with human reviewers: the share of equal verdicts, and Cohen's kappa.

Kappa subtracts the agreement that chance alone would give.

J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20 (1960).
"""

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from difference_feedback.errors import DataError
from difference_feedback.judges.audit import VERDICTS
from difference_feedback.judges.intervals import wilson_interval
from difference_feedback.runs.jsonl import Row, iterate_jsonl

RESAMPLES = 2000


@dataclass(frozen=True)
class Agreement:
    """How far two lists of verdicts on the same repairs agree. All intervals are 95 % intervals."""

    n: int
    raw: float
    raw_interval: tuple[float, float]
    """Wilson's interval."""
    kappa: float | None
    """None where it is undefined, because both sides gave the same single verdict throughout."""
    kappa_interval: tuple[float, float] | None
    """Percentile interval of a bootstrap over repairs."""
    confusion: dict[str, dict[str, int]]
    """Auditor's verdict -> reviewer's verdict -> number of repairs."""


def agreement(auditor: Sequence[str], human: Sequence[str], *, seed: int = 0) -> Agreement:
    """Compare two lists of verdicts: entry `i` of both is about the same repair.

    Raises `DataError` when the lists are empty or differ in length.
    """
    if len(auditor) != len(human) or not len(auditor):
        raise DataError(
            f"agreement: there are {len(auditor)} verdicts of the auditor and {len(human)} of reviewers; give one of "
            "each for every repair, and at least one pair"
        )
    return agreement_of(Counter(zip(auditor, human, strict=True)), seed=seed)


def agreement_of(pairs: Mapping[tuple[str, str], int], *, seed: int = 0) -> Agreement:
    """The same from counts: `(auditor's verdict, reviewer's verdict) -> number of repairs`, of which there is one."""
    names = sorted({name for pair in pairs for name in pair})
    table = np.array([[pairs.get((a, h), 0) for h in names] for a in names], dtype=np.int64)
    total = int(table.sum())
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(total, (table / total).ravel(), RESAMPLES).reshape(RESAMPLES, *table.shape)
    resampled = [k for k in map(cohens_kappa, drawn) if not math.isnan(k)]
    kappa = cohens_kappa(table)
    low, high = np.percentile(resampled, [2.5, 97.5]) if resampled else (math.nan, math.nan)
    same = int(np.trace(table))
    return Agreement(
        n=total,
        raw=same / total,
        raw_interval=wilson_interval(same, total),
        kappa=None if math.isnan(kappa) else kappa,
        kappa_interval=None if math.isnan(kappa) else (float(low), float(high)),
        confusion={
            a: {h: int(table[i, j]) for j, h in enumerate(names) if table[i, j]}
            for i, a in enumerate(names)
            if table[i].any()
        },
    )


def cohens_kappa(table: np.ndarray) -> float:
    """Cohen's kappa `(p_o - p_e) / (1 - p_e)` of a confusion table `(C, C)`; NaN when `p_e` is 1."""
    total = table.sum()
    observed = np.trace(table) / total
    expected = float(table.sum(0) @ table.sum(1)) / total**2
    return math.nan if expected == 1 else float((observed - expected) / (1 - expected))


def run_agreement(audits: Path, reviews: Path) -> Agreement | None:
    """Agreement of a run's audits with its reviews; None when no repair has both.

    Each reviewer's last verdict on a repair counts. Rows that cannot be read are left out, and a warning counts them.
    """
    verdicts, latest = dict[str, str](), dict[tuple[str, str], str]()
    count = 0
    for path in (audits, reviews):
        for line in iterate_jsonl(path):
            row = line.values if isinstance(line, Row) else {}
            verdict = row.get("verdict")
            if isinstance(line, Row) and not verdict and path == audits:  # an outage
                continue
            if not isinstance(row.get("id"), str | int) or verdict not in VERDICTS:
                count += 1
            elif path == audits:
                verdicts[str(row["id"])] = verdict
            else:
                latest[str(row["id"]), str(row.get("annotator"))] = verdict
    if count:
        warnings.warn(f"{audits.parent}: {count} rows of audits and reviews cannot be read; left out", stacklevel=2)
    both = Counter((verdicts[name], verdict) for (name, _), verdict in latest.items() if name in verdicts)
    return agreement_of(both) if both else None
