"""Tables of the evidence, as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

Evidence = Mapping[str, Any]


def accuracy_table(found: Evidence, groups: Sequence[str] | None = None) -> str:
    """A row a method: accuracy with its interval, seeds, updates, and both measures of compute."""
    lines = _head(["", "accuracy", "95 % interval", "seeds", "updates", "CPU s", "of them first", "TFLOP", "tokens"])
    for figures in found["methods"].values():
        if groups is not None and figures["group"] not in groups:
            continue
        trained = figures["cpu_seconds"] > 0
        compute = [
            _number(figures["steps"]),
            f"{figures['cpu_seconds']:.0f}",
            f"{figures['setup_cpu_seconds']:.0f}",
            f"{figures['teraflops']:.1f}",
            f"{figures['generated_tokens'] / 1e3:.0f} k",
        ]
        lines.append(
            _line(
                [
                    figures["label"],
                    f"{100 * figures['mean']:.1f} %",
                    _interval(figures, "%"),
                    str(len(figures["seeds"])),
                    *(compute if trained else [""] * 5),
                ]
            )
        )
    return "\n".join(lines)


def difference_table(found: Evidence, pairs: Sequence[tuple[str, str]] | None = None) -> str:
    """A row a comparison: the difference in points, three intervals, and the probability of improvement."""
    lines = _head(
        [
            "",
            "difference",
            "stratified",
            "whole runs",
            "paired t",
            "P(improvement)",
            "seeds",
            "seed by seed",
            "ahead after",
            "at its end after",
        ]
    )
    for one in found["comparisons"]:
        if pairs is not None and (one["method"], one["against"]) not in pairs:
            continue
        first, second = one["labels"]
        lines.append(
            _line(
                [
                    f"{first} less {second}",
                    f"{100 * one['difference']:+.1f}",
                    _interval(one, sign=True),
                    _interval(one["whole_runs"], sign=True),
                    _interval(one["paired_t"], sign=True),
                    f"{one['probability_of_improvement']['value']:.2f}",
                    str(len(one["seeds"])),
                    ", ".join(f"{100 * value:+.1f}" for value in one["per_seed"]),
                    *("" if one[key] is None else f"{one[key]:.0f} CPU s" for key in ("ahead_after", "reaches_after")),
                ]
            )
        )
    return "\n".join(lines)


def task_table(found: Evidence, methods: Sequence[str] | None = None) -> str:
    """A row a method, a column a task: accuracy in %, mean over seeds."""
    names = [name for name in found["methods"] if methods is None or name in methods]
    tasks = list(found["methods"][names[0]]["by_task"])
    lines = _head(["", *tasks])
    for name in names:
        figures = found["methods"][name]
        shares = [f"{100 * figures['by_task'][task]['mean']:.1f}" for task in tasks]
        lines.append(_line([figures["label"], *shares]))
    return "\n".join(lines)


def mask_table(found: Evidence) -> str:
    """A row a method with a gate: the gate's tokens against those that state a wrong value."""
    lines = _head(["", "precision", "recall", "F1", "first error met", "density", "F1 by thirds of training"])
    for figures in found["methods"].values():
        if not figures["masks"]:
            continue
        whole = figures["masks"]["all"]
        thirds = " → ".join(_share(third.get("f1")) for third in figures["masks"]["thirds"])
        shares = [_share(whole[key]) for key in ("precision", "recall", "f1", "first_error", "density")]
        lines.append(_line([figures["label"], *shares, thirds]))
    return "\n".join(lines)


def stability_table(found: Evidence) -> str:
    """A row a trained method: spread over seeds, collapsed runs, entropy and distance from the start at the end."""
    lines = _head(["", "spread over seeds (points)", "collapsed runs", "entropy at the end", "KL from the start"])
    for figures in found["methods"].values():
        if figures["kl_from_start"] is None:
            continue
        spread = "" if figures["spread"] is None else f"{100 * figures['spread']:.1f}"
        collapsed = f"{figures['collapsed']} of {len(figures['seeds'])}"
        ends = [f"{figures['entropy']:.3f}", f"{figures['kl_from_start']:.3f}"]
        lines.append(_line([figures["label"], spread, collapsed, *ends]))
    return "\n".join(lines)


def cost_table(found: Evidence) -> str:
    """A row a method: the terms of Eq. 29 in CPU seconds an update, what they add up to, and what was measured."""
    lines = _head(
        [
            "",
            "C_base",
            "wrong answers",
            "of them repaired",
            "K",
            "C_repair",
            "predicted",
            "measured",
            "before the first",
        ]
    )
    for figures in found["methods"].values():
        cost = figures["cost"]
        if not cost:
            continue
        counts = [f"{cost['wrong']:.1f}", f"{cost['repaired']:.1f}", f"{cost['num_repairs']:.0f}"]
        sums = [f"{1000 * cost['repair']:.1f} ms", f"{cost['predicted']:.3f} s", f"{cost['measured']:.3f} s"]
        ends = f"{figures['setup_cpu_seconds']:.0f} s"
        lines.append(_line([figures["label"], f"{cost['base']:.3f} s", *counts, *sums, ends]))
    return "\n".join(lines)


def _interval(bounds: Mapping[str, Any], unit: str = "", sign: bool = False) -> str:
    if bounds["low"] is None:
        return ""
    form = "{:+.1f}" if sign else "{:.1f}"
    ends = " to ".join(form.format(100 * bounds[end]) for end in ("low", "high"))
    return f"{ends} {unit}".strip()


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _head(columns: Sequence[str]) -> list[str]:
    return [_line(columns), "|---" * len(columns) + "|"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
