"""The whole method in one command: a small plan of the bench, then examples, a report, and two tables."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from difference_feedback.bench.cells import Cell, cells_of
from difference_feedback.bench.results import ResultRow
from difference_feedback.bench.runner import run_bench
from difference_feedback.judges.intervals import wilson_interval
from difference_feedback.runs.folder import Run
from difference_feedback.runs.loading import load_recipe
from difference_feedback.runs.recipes import BenchRecipe, TrainRecipe
from difference_feedback.runs.terminal import Terminal, echo


def run_demo(plan: BenchRecipe, run: Run) -> Path:
    """Run the plan's cells in the folder of `run`, write examples and a report, and print tables of the results.

    Returns the path of the report. An interrupted demo continues every cell; finished cells do not run again.
    """
    from difference_feedback.report.page import write_report

    console = Terminal(emoji=False)
    cells = cells_of(plan)
    console.print(f"Folder: {run.folder}. Each cell writes its own log in {run.folder / 'cells'}.")
    rows = {row["hash"]: row for row in run_bench(plan, run.folder, jobs=min(len(cells), os.cpu_count() or 1))}
    ordered = [rows[cell.hash] for cell in cells]
    repairing = next((cell for cell in cells if plan.methods[cell.method].repair_model), None)
    if plan.examples and repairing and not (run.folder / "examples.jsonl").is_file():
        console.print("Repairing wrong answers of the base as examples for the report.")
        _write_examples(plan.examples, run.folder, repairing)
    if not run.finished:
        run.finish({"accuracies": {cell.name: rows[cell.hash]["accuracy"] for cell in cells}})
    report = write_report([run.folder])
    console.print(_table(ordered))
    for path in sorted(run.folder.glob("shared/repair_rl-*/summary.json")):
        console.print(_factors(json.loads(path.read_text(encoding="utf-8"))["factors"]))
    echo(f"Report: {report}")
    return report


def _write_examples(number: int, root: Path, cell: Cell) -> None:
    """Repair wrong answers of the base as the run of `cell` did."""
    from difference_feedback.policy.train import host_config, load_repairer
    from difference_feedback.report.examples import make_examples
    from difference_feedback.runs.jsonl import write_jsonl
    from difference_feedback.world import sample_problems
    from difference_feedback.world.nano import load_base

    folder = root / "cells" / cell.name
    recipe = load_recipe(folder / "config.yaml", TrainRecipe)
    config = host_config(recipe)
    model, processor = load_base()
    repairer = load_repairer(recipe, config, model, processor)
    problems = sample_problems("rl", 3 * number, recipe.seed + 1)
    repeats = {"num_repairs": config.num_repairs, "seed": recipe.seed}
    examples = make_examples(model, processor, repairer, problems, number, **repeats)
    write_jsonl(root / "examples.jsonl", (example.model_dump(mode="json") for example in examples))


def _table(rows: Sequence[ResultRow]) -> Table:
    table = Table(title=f"Held-out accuracy, {rows[0]['problems']} problems on images never seen in training")
    table.add_column("")
    for column in ("accuracy", "95 % interval", "updates", "CPU s", "setup s"):
        table.add_column(column, justify="right", no_wrap=True)
    seeds = {row["seed"] for row in rows}
    for row in rows:
        low, high = wilson_interval(round(row["accuracy"] * row["problems"]), row["problems"])
        label = row["label"] if len(seeds) == 1 else f"{row['label']}, seed {row['seed']}"
        seconds = [f"{row[key]:.0f}" if row[key] else "" for key in ("cpu_seconds", "setup_cpu_seconds")]
        updates = str(row["steps"] or "")
        table.add_row(label, f"{row['accuracy']:.1%}", f"{low:.0%} – {high:.0%}", updates, *seconds)
    return table


def _factors(factors: dict[str, Any]) -> Table:
    """The two factors of the repair reward, and how often each was 1. [DF, Eqs. 3-4]"""
    table = Table(title="Factors of the repair reward, over the repair model's training")
    for column in ("factor", "1 for", "why it was 0 for the others"):
        table.add_column(column)

    def share(value: float | None) -> str:
        return "switched off" if value is None else f"{value:.0%} of repairs"

    blind, audit = factors["right_without_image"], factors.get("audit")
    reason = "" if blind is None else f"{blind:.0%} of repairs from a blank or noise image were right"
    table.add_row("needs the image", share(factors["visual_kept"]), reason)
    hits = ", ".join(f"{mode.replace('_', ' ')} {count}" for mode, count in audit["hits"].items()) if audit else ""
    reason = f"{audit['judged']} right repairs judged, faults: {hits}" if audit else ""
    table.add_row("auditor", share(factors["audit_kept"]), reason)
    return table
