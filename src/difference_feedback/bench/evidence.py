"""From the rows of a bench to its figures: those of each method, and the differences between methods, paired by seed.

The result is plain values. Tables and plots are made from it and from the rows.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from difference_feedback.bench.cells import settings_of
from difference_feedback.bench.curves import matches_final_at, overtakes_at
from difference_feedback.bench.results import REPAIR_FIGURES, ResultRow
from difference_feedback.bench.statistics import Scores, paired_t
from difference_feedback.runs.recipes import BenchRecipe

COST_TERMS = ("base", "wrong", "repaired", "num_repairs", "repair", "predicted", "measured")
COLLAPSE = 0.05
"""A run that ends this much below the base's accuracy is called collapsed."""


def evidence(rows: Sequence[ResultRow], against: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Figures of every method, and of every comparison `method -> others` that share at least one seed.

    Accuracies are shares, 0 to 1. Intervals are `statistics.paired_t`'s, of 95 %; they are null if there are too few
    seeds.
    """
    by_method: dict[str, list[ResultRow]] = {}
    for row in rows:
        by_method.setdefault(name_of(row), []).append(row)
    base = next((_mean([row["accuracy"] for row in runs]) for runs in by_method.values() if _is_base(runs)), None)
    methods = {name: _figures(runs, base) for name, runs in by_method.items()}
    comparisons = [
        comparison
        for name, runs in by_method.items()
        for other in against.get(runs[0]["method"], ())
        if (counterpart := _counterpart(other, runs[0]["settings"], by_method))
        if (comparison := _comparison(name, counterpart, by_method, base))
    ]
    return {"budget_cpu_seconds": _budget(rows), "base": base, "methods": methods, "comparisons": comparisons}


def finished_methods(rows: Sequence[ResultRow], plan: BenchRecipe) -> tuple[list[ResultRow], dict[str, int]]:
    """The rows of the methods that have run on all seeds of the plan, and how many seeds the others have, by label.

    Only the former are results to compare. A seed counts once it has run on every set of tasks. The base needs one.
    """
    by_method: dict[str, list[ResultRow]] = {}
    for row in rows:
        by_method.setdefault(name_of(row), []).append(row)
    done: list[ResultRow] = []
    named = (
        {"method": name, "settings": settings, "label": method.label}
        for name, method in plan.methods.items()
        for settings in settings_of(plan, method)
    )
    unfinished = {name_of(row, "label"): 0 for row in named if name_of(row) not in by_method}
    for runs in by_method.values():
        cells = {(row["seed"], row["tasks"]) for row in runs}
        seeds = [seed for seed in plan.seeds if all((seed, tasks) in cells for tasks in plan.tasks)]
        if len(seeds) >= (1 if _is_base(runs) else len(plan.seeds)):
            done += runs
        else:
            unfinished[name_of(runs[0], "label")] = len(seeds)
    return done, unfinished


def name_of(row: Mapping[str, Any], title: str = "method") -> str:
    """The method with its swept settings, by the plan's name or by another `title` of the row, such as its label."""
    names = {"learning_rate": "lr"}
    keys = {key: key.rsplit(".", 1)[-1] for key in row["settings"]}
    swept = ", ".join(f"{names.get(keys[key], keys[key])} {value}" for key, value in row["settings"].items())
    return f"{row[title]} ({swept})" if swept else row[title]


def _counterpart(method: str, settings: Mapping[str, Any], by_method: Mapping[str, Sequence[ResultRow]]) -> str | None:
    """What a method with swept settings is compared with: `method` at the same settings, or as the plan has it."""
    variants = {name: rows[0]["settings"] for name, rows in by_method.items() if rows[0]["method"] == method}
    same = [name for name, swept in variants.items() if swept == settings]
    plain = [name for name, swept in variants.items() if not swept]
    return next(iter(same + plain), None)


def _is_base(rows: Sequence[ResultRow]) -> bool:
    return rows[0]["method"] == "base"


def _budget(rows: Sequence[ResultRow]) -> float | None:
    return next((row["budget_cpu_seconds"] for row in rows if row["budget_cpu_seconds"]), None)


def scores_of(rows: Sequence[ResultRow]) -> tuple[Scores, list[int]]:
    """Accuracies `(N, M)`, a row a seed, a column a task, and the seeds. Tasks of several task sets stand side by side.

    Only seeds that have run on every task set are taken.
    """
    sets = sorted({row["tasks"] for row in rows})
    by_cell = {(row["seed"], row["tasks"]): row["by_task"] for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    seeds = [seed for seed in seeds if all((seed, name) in by_cell for name in sets)]
    table = [[share for name in sets for _, share in sorted(by_cell[seed, name].items())] for seed in seeds]
    return np.array(table, np.float64), seeds


def _task_names(rows: Sequence[ResultRow]) -> list[str]:
    """The columns of `scores_of`."""
    sets = {row["tasks"]: sorted(row["by_task"]) for row in rows}
    return [task for name in sorted(sets) for task in sets[name]]


def _figures(rows: Sequence[ResultRow], base: float | None) -> dict[str, Any]:
    scores, seeds = scores_of(rows)
    means = scores.mean(axis=1)
    return {
        "label": name_of(rows[0], "label"),
        "group": rows[0]["group"],
        "settings": rows[0]["settings"],
        **_interval("mean", scores),
        "seeds": seeds,
        "per_seed": means.tolist(),
        "spread": float(means.std(ddof=1)) if len(means) > 1 else None,
        "collapsed": sum(m < base - COLLAPSE for m in means.tolist()) if base is not None else None,
        "by_task": {task: _interval("mean", scores[:, [i]]) for i, task in enumerate(_task_names(rows))},
        "problems": rows[0]["problems"],
        "cpu_seconds": _mean([row["cpu_seconds"] for row in rows]),
        "setup_cpu_seconds": _mean([row["setup_cpu_seconds"] for row in rows]),
        "teraflops": _mean([(row["work"]["forward"] + row["work"]["backward"]) / 1e12 for row in rows]),
        "generated_tokens": _mean([row["work"]["generated_tokens"] for row in rows]),
        "steps": _mean([row["steps"] for row in rows]),
        "entropy": _mean([row["entropy"][1] if row.get("entropy") else None for row in rows]),
        "kl_from_start": _mean([row.get("kl_from_start") for row in rows]),
        "masks": _masks(rows),
        "cost": _cost(rows),
        "repairs": _repairs(rows),
    }


def _masks(rows: Sequence[ResultRow]) -> dict[str, Any] | None:
    """Means over seeds of what `bench.results.mask_figures` returns."""
    masks = [row["masks"] for row in rows if row.get("masks")]
    if not masks:
        return None

    def mean(figures: list[dict[str, float] | None]) -> dict[str, float | None]:
        measured = [values for values in figures if values]
        return {key: _mean([values[key] for values in measured]) for key in measured[0]} if measured else {}

    return {
        "all": mean([figures["all"] for figures in masks]),
        "thirds": [mean([figures["thirds"][i] for figures in masks]) for i in range(3)],
    }


def _cost(rows: Sequence[ResultRow]) -> dict[str, float | None] | None:
    """Means over seeds of the terms of Eq. 29 that every row has, whenever it was made."""
    costs = [row["cost"] for row in rows if row.get("cost")]
    return {term: _mean([cost[term] for cost in costs]) for term in COST_TERMS} if costs else None


def _repairs(rows: Sequence[ResultRow]) -> dict[str, float | None] | None:
    """Means over seeds of what `bench.results.repair_figures` returns."""
    repairs = [row["repairs"] for row in rows if row.get("repairs")]
    return {name: _mean([figures[name] for figures in repairs]) for name in REPAIR_FIGURES} if repairs else None


def _comparison(
    name: str, other: str, by_method: Mapping[str, Sequence[ResultRow]], base: float | None
) -> dict[str, Any] | None:
    first, seeds = scores_of(by_method[name])
    second, other_seeds = scores_of(by_method[other])
    if _is_base(by_method[other]) and len(second):  # the base is the same for all seeds
        second, other_seeds = np.repeat(second[:1], len(seeds), axis=0), seeds
    shared = [seed for seed in seeds if seed in other_seeds]
    if not shared:
        return None
    a = first[[seeds.index(seed) for seed in shared]]
    b = second[[other_seeds.index(seed) for seed in shared]]
    difference = a - b
    return {
        "method": name,
        "against": other,
        "labels": [name_of(by_method[key][0], "label") for key in (name, other)],
        **_interval("difference", difference),
        "seeds": shared,
        "per_seed": difference.mean(axis=1).tolist(),
        **_overtaken(by_method[name], by_method[other], shared, base),
    }


def _overtaken(
    first: Sequence[ResultRow], second: Sequence[ResultRow], seeds: Sequence[int], base: float | None
) -> dict[str, float | None]:
    """`curves.overtakes_at` and `matches_final_at` on the shared seeds; None where a method has no learning curve."""
    here, there = ([row for row in rows if row["seed"] in seeds] for rows in (first, second))
    if base is None or not here or not there or any(len(row["curve"]) < 2 for row in here + there):
        return {"overtakes_at": None, "matches_final_at": None}
    return {"overtakes_at": overtakes_at(here, there, base), "matches_final_at": matches_final_at(here, there, base)}


def _interval(name: str, scores: Scores) -> dict[str, float | None]:
    value, low, high = paired_t(scores)
    return {name: value} | {end: None if math.isnan(bound) else bound for end, bound in (("low", low), ("high", high))}


def _mean(values: Sequence[float | None]) -> float | None:
    kept = [value for value in values if value is not None]
    return float(np.mean(kept)) if kept else None
