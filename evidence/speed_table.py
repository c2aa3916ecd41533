"""The tables of the speed benchmark: medians of both trees, and their ratio with its spread over the runs."""

from collections.abc import Sequence
from statistics import median
from typing import Any

Figures = dict[tuple[str, str], list[tuple[float, float]]]
"""By measure and figure: before and now, a pair for each run."""


def speed_table(rows: Sequence[dict[str, Any]]) -> str:
    """All figures. A ratio is that of one run's two figures: both met the same machine. Above 1, it is better now."""
    lines = ["| | before | now | before / now | of all runs |", "|---|---|---|---|---|"]
    for (_, figure), pairs in _figures(rows).items():
        before, now = (median(values) for values in zip(*pairs, strict=True))
        lines.append(f"| {figure} | {before:.3g} | {now:.3g} | {_ratio(pairs)} |")
    return "\n".join(lines)


def medians(rows: Sequence[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Figure -> its medians, before and now."""
    return {
        figure: (median(before for before, _ in pairs), median(now for _, now in pairs))
        for (_, figure), pairs in _figures(rows).items()
    }


def step_ratios(rows: Sequence[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """A step of DF-GRPO over one of GRPO, run by run: before and now."""
    figures = _figures(rows)
    (grpo,) = (pairs for (measure, _), pairs in figures.items() if measure == "grpo")
    df = next(pairs for (measure, _), pairs in figures.items() if measure == "df_grpo")
    before, now = ([d[tree] / g[tree] for d, g in zip(df, grpo, strict=True)] for tree in (0, 1))
    return before, now


def step_table(rows: Sequence[dict[str, Any]]) -> str:
    """What a training step of DF-GRPO costs over one of GRPO, and where it goes. [DF, Eq. 29]"""
    figures = _figures(rows)
    (grpo,) = (pairs for (measure, _), pairs in figures.items() if measure == "grpo")
    lines = ["| | before | now | share of the step now |", "|---|---|---|---|"]
    lines.append(f"| a step of GRPO | {' | '.join(_shown(_of_tree(grpo, tree)) for tree in (0, 1))} | |")
    df = [(figure, pairs) for (measure, figure), pairs in figures.items() if measure == "df_grpo"]
    whole = median(now for _, now in df[0][1])
    for figure, pairs in df:
        share = f"{median(now for _, now in pairs) / whole:.0%}"
        both = " | ".join(_shown(_of_tree(pairs, tree)) for tree in (0, 1))
        lines.append(f"| {figure.removesuffix(', s')} | {both} | {share} |")
    both = " | ".join(f"{median(over):.2f} ({min(over):.2f} to {max(over):.2f})" for over in step_ratios(rows))
    lines.append(f"| DF-GRPO over GRPO | {both} | |")
    return "\n".join(lines)


def _of_tree(pairs: Sequence[tuple[float, float]], tree: int) -> list[float]:
    return [pair[tree] for pair in pairs]


def _figures(rows: Sequence[dict[str, Any]]) -> Figures:
    """Of the runs that both trees have ended, in the order of the first run."""
    trees = {(row["measure"], row["run"], row["tree"]): row["figures"] for row in rows}
    figures: Figures = {}
    for (measure, run, tree), before in trees.items():
        now = trees.get((measure, run, "after"))
        if tree == "before" and now is not None:
            for name, value in before.items():
                figures.setdefault((measure, name), []).append((value, now[name]))
    return figures


def _ratio(pairs: Sequence[tuple[float, float]]) -> str:
    ratios = [before / now for before, now in pairs]
    return f"{median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} ({len(ratios)})"


def _shown(seconds: Sequence[float]) -> str:
    return f"{median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f})"
