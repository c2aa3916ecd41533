"""The tables of the pages that no command prints, as Markdown. Each takes the kept results of one kind."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from difference_feedback.bench.results import ResultRow
from difference_feedback.bench.tables import markdown_table

FACTOR_FIGURES = {
    "right, one sample": "accuracy_at_1",
    "right, better of two": "accuracy_at_2",
    "edit cost": "edit_cost",
    "mask F1": "f1",
    "right without the image": "blind_share",
    "right ones found clean": "audit_survival",
    "right and clean": "right_and_clean",
    "CPU s": "cpu_seconds",
}
"""Column of the table of `repair_factors.py` -> key of its rows."""

Comparison = Mapping[str, Any]
"""As `bench.evidence.evidence` returns it."""


def task_table(comparison: Comparison) -> str:
    """A row a method, a column a task: accuracy in %, mean over seeds."""
    methods = list(comparison["methods"].values())
    tasks = list(methods[0]["by_task"])
    return markdown_table(
        ["", *tasks],
        [[method["label"], *(f"{100 * method['by_task'][task]['mean']:.1f}" for task in tasks)] for method in methods],
    )


def mask_table(comparison: Comparison) -> str:
    """A row a method with masks: the marked tokens against those that state a wrong value."""
    rows = []
    for method in comparison["methods"].values():
        if not method["masks"]:
            continue
        whole = method["masks"]["all"]
        shares = [_share(whole[key]) for key in ("precision", "recall", "f1", "first_error", "density")]
        thirds = " → ".join(_share(third.get("f1")) for third in method["masks"]["thirds"])
        rows.append([method["label"], *shares, thirds])
    columns = ["", "precision", "recall", "F1", "first error met", "density", "F1 by thirds of training"]
    return markdown_table(columns, rows)


def stability_table(comparison: Comparison) -> str:
    """A row a trained method: spread over seeds, collapsed runs, entropy and distance from the start at the end."""
    rows = []
    for method in comparison["methods"].values():
        if method["kl_from_start"] is None:
            continue
        spread = "" if method["spread"] is None else f"{100 * method['spread']:.1f}"
        collapsed = f"{method['collapsed']} of {len(method['seeds'])}"
        ends = [f"{method['entropy']:.3f}", f"{method['kl_from_start']:.3f}"]
        rows.append([method["label"], spread, collapsed, *ends])
    columns = ["", "spread over seeds (points)", "collapsed runs", "entropy at the end", "KL from the start"]
    return markdown_table(columns, rows)


def cost_table(comparison: Comparison) -> str:
    """A row a method: the terms of Eq. 29 in CPU seconds an update, what they add up to, and what was measured."""
    rows = []
    for method in comparison["methods"].values():
        cost = method["cost"]
        if not cost:
            continue
        counts = [f"{cost['wrong']:.1f}", f"{cost['repaired']:.1f}", f"{cost['num_repairs']:.0f}"]
        sums = [f"{1000 * cost['repair']:.1f} ms", f"{cost['predicted']:.3f} s", f"{cost['measured']:.3f} s"]
        setup = f"{method['setup_cpu_seconds']:.0f} s"
        rows.append([method["label"], f"{cost['base']:.3f} s", *counts, *sums, setup])
    columns = ["", "C_base", "wrong answers", "of them repaired", "K", "C_repair", "predicted", "measured", "setup"]
    return markdown_table(columns, rows)


def tuning_table(rows: Sequence[ResultRow]) -> str:
    """A row a cell of `bench_tune`."""
    lines = []
    for row in sorted(rows, key=lambda row: (row["method"], str(row["settings"]))):
        settings = ", ".join(f"`{key}` {value:g}" for key, value in row["settings"].items())
        lines.append([row["label"], settings, f"{100 * row['accuracy']:.1f} %"])
    return markdown_table(["", "settings", "accuracy on the tuning images"], lines)


def tried_table(rows: Sequence[ResultRow]) -> str:
    """A row a cell of `bench_tried`, in the plan's order."""
    lines = []
    for row in rows:
        kl = "" if row.get("kl_from_start") is None else f"{row['kl_from_start']:.2f}"
        lines.append([row["label"], f"{100 * row['accuracy']:.1f} %", str(row["steps"] or ""), kl])
    return markdown_table(["", "accuracy on the tuning images", "updates", "KL from the start"], lines)


def gradient_table(results: Mapping[str, Any]) -> str:
    """A row a method of `gradients.py`, for every repair model that it was run with."""
    rows = []
    for repairs, result in results.items():
        for name, figures in result["figures"].items():
            noise = "no signal seen" if figures["noise_scale"] is None else f"{figures['noise_scale']:.1f}"
            cosines = [f"{figures[key]:.2f}" for key in ("cosine_one_batch", "cosine_mean")]
            rows.append([name, repairs, *cosines, noise])
    return markdown_table(
        ["", "repairs", "cosine, one batch", "cosine, mean of all batches", "noise scale, batches"], rows
    )


def plausible_table(results: Mapping[str, Any]) -> str:
    """A row a threshold of `plausible_repairs.py`, for every repair model that it was run with."""
    rows = []
    for repairs, result in results.items():
        for row in result["thresholds"]:
            shares = [f"{100 * row[name]:.0f} %" for name in ("kept", "clean", "clean_kept")]
            label = f"{repairs} ({result['right']} right of {result['drafts']})"
            rows.append([label, f"{row['threshold']:g}", *shares])
    return markdown_table(
        ["repairs", "least probable token at least", "kept", "clean of those", "of the clean kept"], rows
    )


def reference_table(results: Mapping[str, Any]) -> str:
    """A row a repairer of `reference_use.py`; shares in %."""
    references = {
        "sibling": "a right sibling",
        "flawless": "a flawless answer",
        "foreign": "another question's",
        "none": "none",
    }
    shares = {
        "clean": "clean of those",
        "right_edits": "with right edits",
        "taught_known": "known: right edits",
        "taught_unknown": "not known: right edits",
        "cancelling": "of unedited, before the first edit",
    }
    rows = []
    for name, result in (
        results["models"] | {name: {"sibling": row} for name, row in results["without"].items()}
    ).items():
        right = [f"{100 * result[kind]['right']:.0f}" if kind in result else "" for kind in references]
        rows.append([name, *right, *(f"{100 * result['sibling'][key]:.0f}" for key in shares)])
    return markdown_table(["", *(f"right, shown {name}" for name in references.values()), *shares.values()], rows)


def log_ratio_table(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """A row a way of `log_ratio.py` to weigh tokens: means over the seeds, for average precision with the range."""
    by_model = {
        "doubt": "`doubt` of {}",
        "log_ratio": "`log_ratio` of {}",
        "repair_of_two": "mask of the right one of two repairs by {}",
        "one_repair": "mask of a repair by {}",
    }
    alike = {
        "sibling": "mask of the closest right sibling",
        "oracle": "mask of the oracle's repair",
        "policy": "doubt of the policy itself",
        "random": "random tokens",
    }
    ways = [(way, name.format(label), runs) for way, name in by_model.items() for label, runs in results.items()]
    ways += [(way, name, list(results.values())[-1]) for way, name in alike.items()]
    lines = []
    for way, name, runs in ways:
        figures = {key: [run["ways"][way][key] for run in runs] for key in runs[0]["ways"][way]}
        means = {key: f"{statistics.mean(values):.2f}" for key, values in figures.items()}
        for key in ("average_precision", "root_average_precision"):
            means[key] += f" ({min(figures[key]):.2f}–{max(figures[key]):.2f})"
        seconds = statistics.mean(figures["seconds"])
        shown = ["precision", "recall", "average_precision", "root_recall", "root_average_precision", "density"]
        lines.append([name, *(means[key] for key in shown), f"{1000 * seconds:.1f}" if seconds else ""])
    columns = ["precision", "recall", "average precision", "roots: recall", "roots: average precision"]
    columns += ["density", "CPU ms"]
    some = next(iter(results.values()))
    return (
        f"{markdown_table(['', *columns], lines)}\n\nMean over {len(some)} seeds, in brackets the lowest and "
        f"the highest; {', '.join(str(run['drafts']) for run in some)} drafts."
    )


def drafted_table(results: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """A row a drafter of `drafted_repairs.py`: means over the seeds, and the range of the seeds for the ratios."""
    lines = []
    for name, runs in results.items():

        def mean(key: str, runs: Sequence[Mapping[str, float]] = runs) -> float:
            return statistics.mean(run[key] for run in runs)

        def ratio(key: str, runs: Sequence[Mapping[str, float]] = runs) -> str:
            values = [run[key] / run["edits_by_hand"] for run in runs]
            return f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"

        shares = [f"{100 * mean(key):.0f} %" for key in ("right", "ready", "deceptive")]
        edits = [f"{mean(key):.1f}" for key in ("edits_by_hand", "edits_corrected")]
        lines.append([name, *shares, *edits, ratio("edits_corrected"), ratio("edits_better_start")])
    columns = ["right", "ready", "deceptive", "edits by hand", "edits of the drafted", "ratio", "ratio, better start"]
    return markdown_table(["drafted by", *columns], lines)


def factor_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row a variant of `repair_factors.py`: mean and range over the seeds, and what to make of it."""
    lines = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        runs = [row for row in rows if row["variant"] == variant]
        cells = [_mean_and_range([run[key] for run in runs], key) for key in FACTOR_FIGURES.values()]
        lines.append([variant, *cells])
    return (
        f"{markdown_table(['', *FACTOR_FIGURES], lines)}\n\nMean over {len({row['seed'] for row in rows})} seeds, in "
        f"brackets the lowest and the highest; {rows[0]['drafts']} held-out drafts, the same for all, two samples "
        "each. CPU seconds are those of stage 2."
    )


def demo_table(rows: Sequence[ResultRow], more_steps: int, more_bound: float) -> str:
    """A row a method of the demo, mean and range over its runs, and the sentences that say what they are.

    `more_bound` is the upper bound after `more_steps` supervised steps.
    """
    by_method: dict[str, list[ResultRow]] = {}
    for row in rows:
        by_method.setdefault(row["method"], []).append(row)
    lines = []
    for runs in by_method.values():
        seconds, setup = (statistics.mean(run[key] for run in runs) for key in ("cpu_seconds", "setup_cpu_seconds"))
        bill = f"{seconds:.0f}" if seconds else ""
        bill += f", {setup:.0f} of them for the repair model" if setup else ""
        values = [100 * run["accuracy"] for run in runs]
        spread = "" if len(runs) == 1 else f" ({min(values):.1f} – {max(values):.1f})"
        lines.append([runs[0]["label"], f"{statistics.mean(values):.1f} %{spread}", bill])
    seeds = {row["seed"] for row in by_method["grpo"]}
    runs = "One seed" if len(seeds) == 1 else f"Mean over {len(seeds)} seeds (in brackets the lowest and the highest)"
    margins = [
        f"{name} minus GRPO: {_margins(by_method[method], by_method['grpo'])} points"
        for method, name in (("df_grpo", "DF-GRPO"), ("oracle", "the oracle's repairs"))
        if method in by_method
    ]
    return (
        f"{markdown_table(['', 'held-out accuracy', 'CPU seconds'], lines)}\n\n"
        f"{runs}, {rows[0]['problems']} problems each on images that no training saw. {'; '.join(margins)}. So few "
        "and so short runs show that the method works end to end, not how much it gains.\n\n"
        f"With more supervised steps ({more_steps} instead of the demo's) the upper bound is {100 * more_bound:.1f} %; "
        "`difference-feedback base` trains the base again and prints both."
    )


def _margins(first: Sequence[ResultRow], second: Sequence[ResultRow]) -> str:
    others = {row["seed"]: row["accuracy"] for row in second}
    return ", ".join(f"{100 * (row['accuracy'] - others[row['seed']]):+.1f}" for row in first)


def _mean_and_range(values: Sequence[float], key: str) -> str:
    form = "{:.0f}" if key == "cpu_seconds" else "{:.3f}" if key == "edit_cost" else "{:.1f}"
    scale = 1 if key in ("cpu_seconds", "edit_cost") else 100
    low, mean, high = (form.format(scale * f(values)) for f in (min, statistics.mean, max))
    return f"{mean} ({low}–{high})"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
