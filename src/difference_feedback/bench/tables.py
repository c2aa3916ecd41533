"""The tables of a comparison that `bench` prints, as Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Evidence = Mapping[str, Any]


def accuracy_table(comparison: Evidence, groups: Sequence[str] | None = None) -> str:
    """A row a method: accuracy with its interval, seeds, updates, and both measures of compute."""
    rows = []
    for figures in comparison["methods"].values():
        if groups is not None and figures["group"] not in groups:
            continue
        compute = [
            _number(figures["steps"]),
            f"{figures['cpu_seconds']:.0f}",
            f"{figures['setup_cpu_seconds']:.0f}",
            f"{figures['teraflops']:.1f}",
            f"{figures['generated_tokens'] / 1e3:.0f} k",
        ]
        accuracy = [f"{100 * figures['mean']:.1f} %", _percent_range(figures)]
        trained = figures["cpu_seconds"] > 0
        rows.append(
            [figures["label"], *accuracy, str(len(figures["seeds"])), *(compute if trained else [""] * len(compute))]
        )
    columns = ["", "accuracy", "95 % interval", "seeds", "updates", "CPU s", "setup s", "TFLOP", "tokens"]
    return markdown_table(columns, rows)


def difference_table(comparison: Evidence, pairs: Sequence[tuple[str, str]] | None = None) -> str:
    """A row a comparison: the difference in points, paired by seed, with its interval."""
    columns = ["", "difference", "95 % interval", "seeds", "seed by seed"]
    rows = []
    for pair in comparison["comparisons"]:
        if pairs is not None and (pair["method"], pair["against"]) not in pairs:
            continue
        times = [pair[key] for key in ("overtakes_at", "matches_final_at")]
        rows.append(
            [
                " minus ".join(pair["labels"]),
                points(pair["difference"]),
                interval(pair),
                str(len(pair["seeds"])),
                ", ".join(map(points, pair["per_seed"])),
                *("" if seconds is None else f"{seconds:.0f} CPU s" for seconds in times),
            ]
        )
    return markdown_table([*columns, "overtakes at", "matches final at"], rows)


def repair_table(comparison: Evidence) -> str:
    """A row a method with a repair model of its own, measured on held-out drafts. Empty without such a method."""
    rows = []
    for method in comparison["methods"].values():
        if figures := method["repairs"]:
            right = [figures[name] for name in ("accuracy_at_1", "accuracy_at_2")]
            shares = ["" if share is None else f"{100 * share:.1f} %" for share in right]  # None: nothing was wrong
            cost = "" if figures["edit_cost"] is None else f"{figures['edit_cost']:.3f}"
            rows.append([method["label"], *shares, cost, f"{100 * method['mean']:.1f} %"])
    columns = ["", "right repairs, one sample", "better of two", "edit cost", "the policy's accuracy"]
    return markdown_table(columns, rows) if rows else ""


def unfinished_list(unfinished: Mapping[str, int], seeds: int) -> str:
    """A line a method that is not in the tables yet; empty when all are finished."""
    return "\n".join(f"- {label}: unfinished, {count} of {seeds} seeds" for label, count in unfinished.items())


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head, *lines = (f"| {' | '.join(line)} |" for line in [columns, *rows])
    return "\n".join([head, "|---" * len(columns) + "|", *lines])


def points(share: float) -> str:
    """A difference of shares in points: `+2.3`. Nothing becomes `-0.0`."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def interval(bounds: Mapping[str, Any]) -> str:
    """That of a difference in points: `+0.5 to +4.1`; empty where there are too few seeds."""
    return "" if bounds["low"] is None else f"{points(bounds['low'])} to {points(bounds['high'])}"


def _percent_range(bounds: Mapping[str, Any]) -> str:
    return "" if bounds["low"] is None else f"{100 * bounds['low']:.1f} to {100 * bounds['high']:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
