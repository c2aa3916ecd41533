"""From the rows of a bench to the points of dose and response that the package ships.

    python evidence/dose.py RESULTS.jsonl

The rows are those of `grpo` and of the oracle's repairs degraded to known shares: `oracle_70_75` has 70 % right
repairs, of which 75 % are clean. Gains are paired by seed with `grpo`. The slope is what GRPO gains by each doubling of
its processor time, by its own curves from a quarter of the budget on. Writes src/difference_feedback/report/dose.json.
"""

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from difference_feedback.bench.curves import gains_at
from difference_feedback.bench.results import ResultRow
from difference_feedback.bench.statistics import paired_t
from difference_feedback.report.dose import SHIPPED, dose_from

DEGRADED = re.compile(r"oracle_(\d+)_(\d+)")


def dose_of(
    rows: Sequence[Mapping[str, Any]], names: Mapping[str, tuple[float, float]] | None = None
) -> dict[str, Any]:
    """The values of dose.json. `names` has the shares of methods whose names do not say them.

    A point needs two seeds that GRPO has as well; others are left out.
    """
    by_method: defaultdict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for row in rows:
        if not row.get("settings"):
            by_method[row["method"]][row["seed"]] = row
    shares = {
        name: (int(found[1]) / 100, int(found[2]) / 100) for name in by_method if (found := DEGRADED.fullmatch(name))
    } | dict(names or {})
    points = []
    for name, (right, clean) in sorted(shares.items(), key=lambda item: item[1]):
        gains = {
            str(seed): 100 * (row["accuracy"] - by_method["grpo"][seed]["accuracy"])
            for seed, row in sorted(by_method[name].items())
            if seed in by_method["grpo"]
        }
        if len(gains) < 2:
            continue
        value, low, high = paired_t(np.array([[gain] for gain in gains.values()]))
        shown = {"gain": value, "low": low, "high": high}
        points.append(
            {"right": right, "clean": clean, **{key: round(number, 3) for key, number in shown.items()}}
            | {"seeds": len(gains), "by_seed": {seed: round(gain, 4) for seed, gain in gains.items()}}
        )
    budget = next(row["budget_cpu_seconds"] for row in by_method["grpo"].values())
    base = next(row["accuracy"] for row in by_method["base"].values())
    slope, low, high = paired_t(np.array([[_slope(row, base, budget)] for row in by_method["grpo"].values()]))
    return {
        "budget_cpu_seconds": budget,
        "points": points,
        "slope": round(slope, 3),
        "slope_interval": [round(low, 3), round(high, 3)],
    }


def _slope(row: ResultRow, base: float, budget: float) -> float:
    """Points by each doubling, by least squares over the curve from a quarter of the budget on.

    Of gains over the start, on the same problems: the last measurement is of more of them than the others.
    """
    seconds = np.array([point[0] for point in row["curve"]])
    late = seconds[seconds >= budget / 4]
    return float(np.polyfit(np.log2(late), gains_at([row], base, late)[0], 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="results.jsonl of a bench")
    parser.add_argument("--output", type=Path, default=SHIPPED)
    options = parser.parse_args()
    rows = [json.loads(line) for path in options.results for line in path.read_text(encoding="utf-8").splitlines()]
    values = dose_of(rows)
    print(f"{sum(len(point['by_seed']) for point in values['points'])} of {len(rows)} runs are gains of points")
    a, b, c = dose_from(values).coefficients
    options.output.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    print(f"{len(values['points'])} points; gain = {a:.2f} {b:+.2f} right {c:+.2f} right * clean")


if __name__ == "__main__":
    main()
