"""The table of the speed benchmark: medians of both trees, and their ratio with its spread over the runs."""

from statistics import median
from typing import Any


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown. A ratio is that of one run's two figures, so that both met the same machine; above 1 is better now."""
    runs: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for row in rows:
        for figure, value in row["figures"].items():
            runs.setdefault((row["measure"], figure), {}).setdefault(row["run"], {})[row["tree"]] = value
    lines = [
        "| measure | figure | before | now | before / now | lowest to highest of the runs |",
        "|---|---|---|---|---|---|",
    ]
    for (measure, figure), by_run in runs.items():
        before, after = ([run[tree] for run in by_run.values() if tree in run] for tree in ("before", "after"))
        ratios = sorted(run["before"] / run["after"] for run in by_run.values() if len(run) == 2 and run["after"])
        shown = [f"{median(values):.3g}" if values else "" for values in (before, after)]
        spread = (
            [f"{median(ratios):.2f}", f"{ratios[0]:.2f} to {ratios[-1]:.2f} ({len(ratios)})"] if ratios else ["", ""]
        )
        lines.append(f"| {measure} | {figure} | {' | '.join([*shown, *spread])} |")
    return "\n".join(lines)
