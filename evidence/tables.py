"""The tables of the pages, as Markdown. Each takes a `Study`, or the kept results of one script."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from difference_feedback.bench import tables
from difference_feedback.bench.results import ResultRow
from difference_feedback.bench.tables import markdown_table
from difference_feedback.report.dose import DosePoint
from study import Study

REPAIRS = {
    "grpo": "none",
    "gspo": "none",
    "df_grpo": "a model trained for it; billed",
    "df_gspo": "a model trained for it; billed",
    "sibling": "the closest right answer of the group; free",
    "blind_rewriter": "perfect sentences, never sees the image; not billed",
    "oracle": "knows the truth; not billed",
    "supervised": "none: trained on the labels",
}
"""Method of the fair plans -> who repairs its wrong answers."""


def baseline_of(method: str) -> str:
    """What a method of the fair plans is compared with: the same objective without Difference Feedback."""
    return "gspo" if method == "df_gspo" else "grpo"


def summary_table(studies: Sequence[Study]) -> str:
    """A row a method: who repairs, and for each study the accuracy and the difference with its interval."""
    shown = [method for method in REPAIRS if any(study.has(method) for study in studies)]
    columns = [f"{title} {study.seconds} s" for study in studies for title in ("accuracy,", "minus baseline,")]
    lines = []
    for method in shown:
        study = next(study for study in studies if study.has(method))
        cells = []
        for study in studies:
            against = baseline_of(method)
            cells += [study.accuracy(method), study.difference(method, against)] if study.has(method) else ["", ""]
        study = next(study for study in studies if study.has(method))
        lines.append([study.label(method), REPAIRS[method], *cells])
    return markdown_table(["method", "repairs", *columns], lines)


def accuracy_table(study: Study) -> str:
    """A row a finished method: accuracy, seeds, updates, and both measures of compute."""
    return tables.accuracy_table({"methods": study.figures})


def difference_table(study: Study, pairs: Sequence[tuple[str, str]]) -> str:
    """A row a comparison of two finished methods: the difference with its interval, seed by seed, and when."""
    compared = [study.pair(*names) for names in pairs]
    return tables.difference_table({"comparisons": [pair for pair in compared if pair]})


def plan_table(study: Study, baselines: Sequence[str] | None = None, methods: Sequence[str] | None = None) -> str:
    """A row a finished method, of `methods` or of all: accuracy, and the difference to each baseline.

    Baselines are by default those that the plan names.
    """
    baselines = compared_with(study) if baselines is None else baselines
    lines = [
        [
            study.label(method),
            study.accuracy(method),
            *("" if method == "base" else study.difference(method, baseline) for baseline in baselines),
            str(len(study.of(method))),
        ]
        for method in methods or study.methods
        if study.has(method)
    ]
    titles = [f"minus {study.label(baseline)}" for baseline in baselines]
    return markdown_table(["", "accuracy", *titles, "seeds"], lines)


def compared_with(study: Study) -> list[str]:
    """What the plan compares its finished methods with, but the base, in its order."""
    plan = study.plan
    named = [other for method in study.methods for other in plan.methods[method].against] if plan else []
    return [other for other in dict.fromkeys(named) if other != "base" and study.has(other)]


def paper_table(study: Study, claims: Mapping[str, Mapping[str, Any]]) -> str:
    """`plan_table` beside what the paper says of each method, and whether the direction was found here, too.

    A claim has the paper's words (`says`), the method that it compares with (`against`, by its name in the plan), and
    the sign of the difference (`sign`).
    """
    baselines = compared_with(study)
    lines = []
    for method in study.methods:
        claim = claims.get(method)
        pair = claim and study.pair(method, claim["against"])
        found = "cannot be tested here" if not pair else "not reproduced"
        if claim and pair and study.outcome(method, claim["against"]) == claim["sign"]:
            found = "reproduced"
        words = [claim["says"], found] if claim else ["" if method in ("base", "grpo") else "not at hand", ""]
        differences = ["" if method == "base" else study.difference(method, baseline) for baseline in baselines]
        lines.append([study.label(method), study.accuracy(method), *differences, *words])
    titles = [f"minus {study.label(baseline)}" for baseline in baselines]
    return markdown_table(["", "accuracy", *titles, "the paper says", "here"], lines)


def repair_table(study: Study) -> str:
    """A row a method with a repair model of its own, measured on held-out drafts. Empty if there is none."""
    return tables.repair_table({"methods": study.figures})


def dose_table(points: Sequence[DosePoint]) -> str:
    """A row a share of right repairs, a column a share of clean ones among them: the gain over GRPO in points."""
    cells = {(p.right, p.clean): f"{p.gain:+.1f} ({p.low:+.1f} to {p.high:+.1f})" for p in points}
    right, clean = (sorted({shares[i] for shares in cells}) for i in (0, 1))
    lines = [[f"{100 * share:.0f} % right", *(cells.get((share, other), "") for other in clean)] for share in right]
    return markdown_table(["", *(f"{100 * share:.0f} % clean" for share in clean)], lines)


def task_table(study: Study) -> str:
    """A row a method, a column a task: accuracy in %, mean over seeds."""

    def cells(method: str) -> list[str]:
        return [
            f"{100 * statistics.mean(row['by_task'][task] for row in study.of(method)):.1f}" for task in study.tasks
        ]

    return markdown_table(["", *study.tasks], [[study.label(method), *cells(method)] for method in study.methods])


def mask_table(study: Study) -> str:
    """A row a method with masks: the marked tokens against those that state a wrong value."""
    lines = []
    for method in study.methods:
        masks = study.figures[method]["masks"]
        if masks:
            shares = [_share(masks["all"][key]) for key in ("precision", "recall", "f1", "first_error", "density")]
            thirds = " → ".join(_share(third.get("f1")) for third in masks["thirds"])
            lines.append([study.label(method), *shares, thirds])
    columns = ["", "precision", "recall", "F1", "first error met", "density", "F1 by thirds of training"]
    return markdown_table(columns, lines)


def cost_table(study: Study) -> str:
    """A row a method: the terms of Eq. 29 in CPU seconds an update, what they add up to, and what was measured."""
    lines = []
    for method in study.methods:
        cost = study.figures[method]["cost"]
        if not cost:
            continue
        counts = [f"{cost['wrong']:.1f}", f"{cost['repaired']:.1f}", f"{cost['num_repairs']:.0f}"]
        sums = [f"{1000 * cost['repair']:.1f} ms", f"{cost['predicted']:.3f} s", f"{cost['measured']:.3f} s"]
        setup = f"{study.mean(method, 'setup_cpu_seconds'):.0f} s"
        lines.append([study.label(method), f"{cost['base']:.3f} s", *counts, *sums, setup])
    columns = ["", "C_base", "wrong answers", "of them repaired", "K", "C_repair", "predicted", "measured", "setup"]
    return markdown_table(columns, lines)


def tuning_table(rows: Sequence[ResultRow], key: str = "trl.learning_rate") -> str:
    """A row a method, a column a value of the swept `key`: accuracy in %, the best of each method in bold.

    Empty if nothing was swept.
    """
    values = sorted({row["settings"][key] for row in rows if key in row["settings"]})
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows if key in row["settings"]):
        runs = [row for row in rows if row["method"] == method]
        by_value = {row["settings"][key]: 100 * row["accuracy"] for row in runs}
        best = max(by_value.values())
        shown = {value: f"{score:.1f}" if score < best else f"**{score:.1f}**" for value, score in by_value.items()}
        lines.append([runs[0]["label"], *(shown.get(value, "") for value in values)])
    return markdown_table(["", *(f"{value:g}" for value in values)], lines) if lines else ""


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


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
