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
        accuracy = [f"{100 * figures['mean']:.1f} %", _interval(figures, "%")]
        trained = figures["cpu_seconds"] > 0
        rows.append(
            [figures["label"], *accuracy, str(len(figures["seeds"])), *(compute if trained else [""] * len(compute))]
        )
    columns = ["", "accuracy", "95 % interval", "seeds", "updates", "CPU s", "setup s", "TFLOP", "tokens"]
    return markdown_table(columns, rows)


def difference_table(comparison: Evidence, pairs: Sequence[tuple[str, str]] | None = None) -> str:
    """A row a comparison: the difference in points, three intervals, and the probability of improvement."""
    columns = ["", "difference", "stratified", "whole runs", "paired t", "P(improvement)", "seeds", "seed by seed"]
    rows = []
    for pair in comparison["comparisons"]:
        if pairs is not None and (pair["method"], pair["against"]) not in pairs:
            continue
        times = [pair[key] for key in ("overtakes_at", "matches_final_at")]
        rows.append(
            [
                " minus ".join(pair["labels"]),
                f"{100 * pair['difference']:+.1f}",
                *(_interval(bounds, sign=True) for bounds in (pair, pair["whole_runs"], pair["paired_t"])),
                f"{pair['probability_of_improvement']['value']:.2f}",
                str(len(pair["seeds"])),
                ", ".join(f"{100 * value:+.1f}" for value in pair["per_seed"]),
                *("" if seconds is None else f"{seconds:.0f} CPU s" for seconds in times),
            ]
        )
    return markdown_table([*columns, "overtakes at", "matches final at"], rows)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head, *lines = (f"| {' | '.join(line)} |" for line in [columns, *rows])
    return "\n".join([head, "|---" * len(columns) + "|", *lines])


def _interval(bounds: Mapping[str, Any], unit: str = "", sign: bool = False) -> str:
    if bounds["low"] is None:
        return ""
    form = "{:+.1f}" if sign else "{:.1f}"
    ends = " to ".join(form.format(100 * bounds[end]) for end in ("low", "high"))
    return f"{ends} {unit}".strip()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
