"""From the rows of `repair check` to its figures: right, clean, edit cost, seconds, each with a 95 % interval.

RepairRows of answers to one question are alike, so all intervals take a question's repairs as one cluster.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from difference_feedback.judges.audit import VERDICTS
from difference_feedback.judges.intervals import clustered_interval
from difference_feedback.runs.jsonl import Row, iterate_jsonl

RepairRows = Sequence[Mapping[str, Any]]
Knows = Callable[[Mapping[str, Any]], bool | None]
"""Whether a right repair is clean; None: not known."""
UNCLEAN = "unseen_evidence"
"""The verdict on a repair that states what the image does not show. The chart calls every other right repair clean."""


def repair_figures(
    rows: RepairRows, rounds: Sequence[Mapping[str, Any]], reviews: Mapping[str, bool]
) -> dict[str, Any]:
    """The measured part of summary.json.

    Args:
        rows: of repairs.jsonl.
        rounds: the rows of metrics.jsonl that close a round.
        reviews: what people say of repairs, by their id in audits.jsonl: whether they are clean.
    """
    answered = [row for row in rows if row["refused"] != "failed"]
    drafts = _grouped(answered, "draft_id")
    judged = {name: of for name, of in drafts.items() if any(row["right"] is not None for row in of)}
    repairs = [row for row in answered if row["repair"] is not None]
    costs = [row for row in repairs if row.get("edit_cost") is not None]
    right = [row for row in answered if row["right"]]
    chosen = [row for row in answered if row["chosen"]]
    source, is_clean = who_knows(rows, reviews)
    usable = [{**of[0], "usable": any(row["chosen"] for row in of)} for of in judged.values()]
    compared = [row for row in answered if row.get("right_without_image") is not None and row["right"] is not None]
    counts = Counter(row["refused"] for row in rows if row["refused"])
    return {
        "drafts": len(drafts),
        "questions": len({row["question_id"] for row in answered}),
        "repairs": len(repairs),
        "right": _share(answered, lambda row: row["right"]),
        "usable": _share(usable, lambda row: row["usable"]),
        "clean": _share(right, is_clean) if source else None,
        "clean_chosen": _share(chosen, is_clean) if source else None,
        "clean_by": source,
        "verdicts": {v: n for v in VERDICTS if (n := sum(row.get("verdict") == v for row in right))},
        "edit_cost": _edit_cost(costs),
        "unedited": _share(costs, lambda row: row["edit_cost"] == 0),
        "copied": _share(repairs, lambda row: row["copied"]),
        "refused": dict(counts),
        "unjudged": sum(row["right"] is None and row["refused"] is None for row in rows),
        "without_image": _without_image(compared),
        "seconds": _seconds(rounds),
        "p_err": _wrong_share(rounds),
    }


def reviews_of(folder: Path) -> dict[str, bool]:
    """What people say in the run's reviews.jsonl: repair -> whether more of them call it clean than not.

    Each reviewer's last verdict counts. A tie is not clean.
    """
    latest: dict[tuple[str, str], str] = {}
    path = folder / "reviews.jsonl"
    for line in iterate_jsonl(path) if path.is_file() else ():
        if isinstance(line, Row) and line.values.get("verdict") in VERDICTS:
            latest[str(line.values.get("id")), str(line.values.get("annotator"))] = line.values["verdict"]
    votes: defaultdict[str, list[bool]] = defaultdict(list)
    for (name, _), verdict in latest.items():
        votes[name].append(verdict != UNCLEAN)
    return {name: 2 * sum(of) > len(of) for name, of in votes.items()}


def who_knows(rows: RepairRows, reviews: Mapping[str, bool]) -> tuple[str | None, Knows]:
    """Who says whether right repairs are clean: the truth, else people, else the auditor. What others say is not used.

    It is the first of them that knows it of a repair that training would choose, or else of any right one.
    """
    sources: dict[str, Knows] = {
        "truth": lambda row: row.get("clean"),
        "people": lambda row: reviews.get(str(row.get("audit"))),
        "auditor": lambda row: None if row.get("verdict") is None else row["verdict"] != UNCLEAN,
    }
    for which in ("chosen", "right"):
        for source, is_clean in sources.items():
            if any(row[which] and is_clean(row) is not None for row in rows):
                return source, is_clean
    return None, lambda _: None


def _share(rows: Iterable[Mapping[str, Any]], value: Knows) -> dict[str, Any]:
    """A share among the rows for which it is known, with its counts."""
    clusters: defaultdict[str, list[bool]] = defaultdict(list)
    for row in rows:
        if (known := value(row)) is not None:
            clusters[row["question_id"]].append(bool(known))
    hits, total = sum(map(sum, clusters.values())), sum(map(len, clusters.values()))
    low, high = clustered_interval([(sum(of), len(of)) for of in clusters.values()])
    return {"share": hits / total if total else None, "interval": [low, high], "count": hits, "of": total}


def _edit_cost(rows: RepairRows) -> dict[str, Any] | None:
    if not rows:
        return None
    costs = [row["edit_cost"] for row in rows]
    clusters = [[row["edit_cost"] for row in of] for of in _grouped(rows, "question_id").values()]
    mean, interval = _mean(clusters, (0.0, 1.0))
    quartiles = np.quantile(costs, (0.25, 0.5, 0.75)).tolist()
    return {"mean": mean, "interval": interval, "quartiles": quartiles, "of": len(costs)}


def _without_image(rows: RepairRows) -> dict[str, Any] | None:
    """How much the share of right repairs falls, by the first repair of each wrong answer with images."""
    if not rows:
        return None
    falls = [
        [row["right"] - float(row["right_without_image"]) for row in of]
        for of in _grouped(rows, "question_id").values()
    ]
    fall, interval = _mean(falls, (-1.0, 1.0))
    seen = _share(rows, lambda row: row["right"])
    blank = _share(rows, lambda row: row["right_without_image"])
    return {"with": seen, "without": blank, "fall": fall, "interval": interval}


def _seconds(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Clock -> seconds of a sampled repair, over all rounds."""
    rounds = [row for row in rounds if row["repairs"]]
    clocks = [clock for clock in ("wall", "cpu", "gpu") if rounds and all(clock in row["seconds"] for row in rounds)]
    seconds = {}
    for clock in clocks:
        of_round, sizes = [[row["seconds"][clock]] for row in rounds], [row["repairs"] for row in rounds]
        mean, interval = _mean(of_round, (0.0, math.inf), sizes)
        seconds[clock] = {"mean": mean, "interval": interval, "of": sum(row["repairs"] for row in rounds)}
    return seconds


def _wrong_share(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Of the policy's judged answers, the wrong ones; None where they come from a file."""
    pairs = [(row["wrong"], row["judged"]) for row in rounds if row.get("judged")]
    if not pairs:
        return None
    wrong, judged = map(sum, zip(*pairs, strict=True))
    low, high = clustered_interval(pairs)
    return {"share": wrong / judged, "interval": [low, high], "count": wrong, "of": judged}


def _mean(
    clusters: Sequence[Sequence[float]], limits: tuple[float, float], sizes: Sequence[int] | None = None
) -> tuple[float, tuple[float, float] | None]:
    """Mean over all values, with Student's interval between the clusters; no interval with a single cluster.

    No value lies outside of `limits`, so the interval does not, either. `sizes` are the numbers of values that each
    cluster's sum stands for, where it holds sums.
    """
    weights = np.array(sizes or [len(of) for of in clusters], np.float64)
    sums, number = np.array([sum(of) for of in clusters], np.float64), len(clusters)
    mean = float(sums.sum() / weights.sum())
    if number < 2:
        return mean, None
    variance = float(((sums - mean * weights) ** 2).sum()) * number / (number - 1) / float(weights.sum()) ** 2
    half = float(stdtrit(number - 1, 0.975)) * math.sqrt(variance)
    return mean, (max(mean - half, limits[0]), min(mean + half, limits[1]))


def _grouped(rows: RepairRows, key: str) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups
