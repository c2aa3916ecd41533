"""The tables of what the scripts of this folder measured, as Markdown. Each takes the kept results of one script."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

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


def repairers_table(results: Mapping[str, Any]) -> str:
    """A row a repairer of `reference_use.py`, shown a right sibling: how many repairs are right, and clean; in %."""
    shown = {name: result["sibling"] for name, result in results["models"].items()} | results["without"]
    lines = [
        [name, *(f"{100 * row[key]:.0f}" for key in ("right", "clean", "right_edits"))] for name, row in shown.items()
    ]
    return markdown_table(["", "right", "clean of those", "right edits of those"], lines)


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


def hosts_table(rows: list[dict[str, Any]]) -> str:
    """Picture and table of `hosts.py`, a row a cell: method and host."""
    steps = len(rows[0]["rewards"])
    columns = ["", "held-out accuracy, %", "reward, last 20 steps, %", "seconds a step", "of which", "peak memory, GiB"]
    lines = []
    for cell, group in _by_cell(rows):
        late = [100 * statistics.mean(row["rewards"][-20:]) for row in group]
        accuracy = [100 * row["accuracy"]["accuracy"] for row in group]
        seconds = statistics.mean(row["step_seconds"] for row in group)
        stages = ", ".join(
            f"{name} {statistics.mean(row['stages'][name] for row in group) / seconds:.0%}"
            for name in group[0]["stages"]
        )
        memory = max(row["peak_gib"] for row in group)
        lines.append([cell, _spread(accuracy), _spread(late), f"{seconds:.1f}", stages, f"{memory:.1f}"])
    seeds = sorted({row["seed"] for row in rows})
    mean_of = "One seed" if len(seeds) == 1 else f"Mean over {len(seeds)} seeds, in brackets each"
    return (
        f"![Reward of the policy's answers over {steps} steps, by host and method](images/hosts.svg)\n\n"
        f"{markdown_table(columns, lines)}\n\n"
        f"{mean_of}; {steps} steps; 1,500 held-out "
        "problems, so that each accuracy is uncertain by 2.4 points (95 %) besides. Memory is the proportional set "
        "size of all the run's processes. Seconds compare stages within a row, not rows."
    )


def _by_cell(rows: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    order = list(dict.fromkeys(row["cell"] for row in rows))
    ordered = sorted(rows, key=lambda row: (order.index(row["cell"]), row["seed"]))
    return [(cell, list(group)) for cell, group in groupby(ordered, key=lambda row: row["cell"])]


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ({', '.join(f'{value:.1f}' for value in values)})"


def _mean_and_range(values: Sequence[float], key: str) -> str:
    form = "{:.0f}" if key == "cpu_seconds" else "{:.3f}" if key == "edit_cost" else "{:.1f}"
    scale = 1 if key in ("cpu_seconds", "edit_cost") else 100
    low, mean, high = (form.format(scale * f(values)) for f in (min, statistics.mean, max))
    return f"{mean} ({low}–{high})"
