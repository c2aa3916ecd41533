"""`difference-feedback bench`: compare methods with the same compute."""

from pathlib import Path
from typing import Annotated

import typer

from difference_feedback.commands.arguments import Arguments, path_option, split_arguments, use_folder
from difference_feedback.runs.terminal import echo

Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Number of cells to run at a time, each on one core.")]
Folder = Annotated[
    Path | None,
    path_option(
        "--output",
        "-o",
        help="Folder of the bench. [dim]\\[default: runs/<plan>][/]",
    ),
]
Listed = Annotated[bool, typer.Option("--list", help="List the plan's cells, and run nothing.")]
Only = Annotated[list[str] | None, typer.Option("--only", help="Run this method alone. May be given several times.")]


def bench(
    arguments: Arguments = None, output: Folder = None, jobs: Jobs = 1, only: Only = None, list_cells: Listed = False
) -> None:
    """Compare methods with the same compute: run every method of a plan for every seed and set of tasks.

    Each combination is a cell, a run of its own. Its result is a row of results.jsonl in the bench's folder. The tables
    show the methods that have run on all seeds; the others are listed below them. The same command continues an
    interrupted bench, and runs the cells that were added to its plan. Plans with the same --output share their cells.

    [bold]Example:[/] difference-feedback bench bench_fair --jobs 2

    [bold]Example:[/] difference-feedback bench bench_fair seeds='[0, 1]' budget_cpu_seconds=300.0 --list
    """
    from difference_feedback.bench.cells import cells_of
    from difference_feedback.bench.results import load_results
    from difference_feedback.bench.runner import run_bench
    from difference_feedback.runs.file_names import bare_name
    from difference_feedback.runs.loading import load_recipe
    from difference_feedback.runs.recipes import BenchRecipe

    name, overrides = split_arguments(arguments, "bench_fair")
    plan = load_recipe(name, BenchRecipe, overrides)
    root = output or Path("runs") / bare_name(name)
    if list_cells:
        done = {row["hash"] for row in load_results(root / "results.jsonl")}
        for cell in cells_of(plan, only):
            echo(f"{'done' if cell.hash in done else 'to do':>5}  {cell.name}")
        return
    use_folder(root)
    rows = run_bench(plan, root, jobs, only)
    from rich.markdown import Markdown

    from difference_feedback.bench.evidence import evidence, finished_methods
    from difference_feedback.bench.tables import accuracy_table, difference_table, repair_table, unfinished_list
    from difference_feedback.runs.terminal import Terminal

    against = {name: method.against for name, method in plan.methods.items()}
    finished, unfinished = finished_methods(rows, plan)
    comparison, console = evidence(finished, against), Terminal(emoji=False)
    tables = [accuracy_table(comparison)] if finished else []
    if comparison["comparisons"]:
        tables.append(difference_table(comparison))
    for part in (*tables, repair_table(comparison), unfinished_list(unfinished, len(plan.seeds))):
        if part:
            console.print(Markdown(part))
    echo(f"Results: {root / 'results.jsonl'}")
