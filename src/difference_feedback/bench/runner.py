"""Run a plan's cells, several at a time, and write a row when each ends. An interrupted bench continues."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from filelock import FileLock, Timeout
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from difference_feedback.bench.cells import Cell, cells_of, check_plan, check_settings
from difference_feedback.bench.results import ResultRow, load_results, machine
from difference_feedback.errors import ConfigError, DifferenceFeedbackError
from difference_feedback.runs.jsonl import JsonLines, read_rows, write_atomically
from difference_feedback.runs.loading import dump_recipe
from difference_feedback.runs.recipes import BenchRecipe
from difference_feedback.runs.safe_path import use_safe_path


def run_bench(plan: BenchRecipe, root: Path, jobs: int = 1, only: Collection[str] | None = None) -> list[ResultRow]:
    """Run the cells of `plan` that `root`/results.jsonl does not hold yet, `jobs` at a time; return the plan's rows.

    `only` runs the cells of these methods alone. Each cell is a run in a folder below `root`/cells and continues from
    its last checkpoint. Models that cells share are below `root`/shared. A cell that fails does not stop the others;
    the error at the end names all that failed.

    Raises `ConfigError` for a plan that contradicts itself, for a cell that cannot run (before the first one runs), and
    where another bench is at work in `root`; `DifferenceFeedbackError` for cells that failed.
    """
    cells = cells_of(plan, only)
    done = {row["hash"] for row in load_results(root / "results.jsonl")}
    todo = [cell for cell in cells if cell.hash not in done]
    check_plan(plan, todo)
    if todo:  # a finished bench need not import TRL
        check_settings(plan, todo)
    if root.exists() and not root.is_dir():
        raise ConfigError(f"{root} is a file: give --output an empty or new folder.")
    root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(root / ".lock", timeout=0):
            write_atomically(root / "config.yaml", dump_recipe(plan))
            return _run_missing(plan, cells, root, jobs)
    except Timeout:
        raise ConfigError(f"{root}: another bench is running there: wait for it, or give another --output.") from None


def _run_missing(plan: BenchRecipe, cells: Sequence[Cell], root: Path, jobs: int) -> list[ResultRow]:
    results = root / "results.jsonl"
    done = {row["hash"] for row in load_results(results)}
    todo = [cell for cell in cells if cell.hash not in done]
    failed = _run(plan, todo, root, jobs, len(cells)) if todo else {}
    if failed:
        lines = [f"{name}: {error} (log: {root / 'cells' / f'{name}.log'})" for name, error in failed.items()]
        head = f"{len(failed)} cells failed; the same command tries them again."
        raise DifferenceFeedbackError("\n".join([head, *lines]))
    wanted = {cell.hash for cell in cells_of(plan)}
    return [row for row in load_results(results) if row["hash"] in wanted]


def _run(plan: BenchRecipe, todo: Sequence[Cell], root: Path, jobs: int, total: int) -> dict[str, BaseException]:
    failed: dict[str, BaseException] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    use_safe_path()
    processes = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(
            min(jobs, len(todo)), processes, initializer=_start_worker, initargs=(os.getpid(),)
        ) as pool,
        Progress(*columns) as progress,
    ):
        done = total - len(todo)
        bar = progress.add_task("cells", total=total, completed=done, note=f"{done} of {total}")
        bars: dict[str, TaskID] = {}
        futures: dict[Future[ResultRow], Cell] = {pool.submit(_run_one, plan, cell, root): cell for cell in todo}
        waiting = set(futures)
        try:
            while waiting:
                finished, waiting = wait(waiting, timeout=2.0, return_when=FIRST_COMPLETED)
                for future in finished:
                    cell, error = futures[future], future.exception()
                    if error is not None:
                        failed[cell.name] = error
                        progress.console.print(f"{cell.name} failed: {error}", markup=False)
                    else:
                        JsonLines(root / "results.jsonl").append(future.result())
                        row = future.result()
                        figures = f"{row['accuracy']:.1%} of {row['problems']}, {row['cpu_seconds']:.0f} CPU s"
                        progress.console.print(f"{cell.name}: {figures}", markup=False, highlight=False)
                    done += 1
                    progress.update(bar, completed=done, note=f"{done} of {total}")
                    if cell.name in bars:
                        progress.remove_task(bars.pop(cell.name))
                for cell in [futures[future] for future in waiting if future.running()]:
                    _show(progress, bars, plan, cell, root)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    return failed


def _show(progress: Progress, bars: dict[str, TaskID], plan: BenchRecipe, cell: Cell, root: Path) -> None:
    """A line for a running cell: its step and CPU seconds, or those of the model that is trained first."""
    if not (root / "cells" / f"{cell.name}.log").is_file():
        return  # the pool calls the next cell running before a worker has taken it
    if cell.name not in bars:
        bars[cell.name] = progress.add_task(cell.name, total=None, note="")
    path, words = root / "cells" / cell.name / "metrics.jsonl", []
    if not path.is_file() and "sft" in cell.parts:
        shared = (root / "shared").glob("*/metrics.jsonl")
        path = max(shared, key=lambda metrics: metrics.stat().st_mtime, default=path)
        words = [path.parent.name]
    rows = read_rows(path)
    if not rows:
        return
    row = {"step": 0, "cpu_seconds": 0.0} | rows[-1]
    words += [f"step {row['step']}"] + ([f"{row['cpu_seconds']:.0f} CPU s"] if row["cpu_seconds"] else [])
    supervised = plan.methods[cell.method].kind == "supervised"
    total = plan.methods[cell.method].steps if supervised else plan.budget_cpu_seconds
    completed = row["step" if supervised else "cpu_seconds"]
    progress.update(bars[cell.name], total=total, completed=completed, note=", ".join(words))


def _run_one(plan: BenchRecipe, cell: Cell, root: Path) -> ResultRow:
    """One cell, in a process of its own; what it prints goes to a log beside its folder."""
    log = root / "cells" / f"{cell.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    from difference_feedback.bench.run_cell import run_cell

    start = time.perf_counter()
    result = run_cell(plan, cell, root)
    method = plan.methods[cell.method]
    return {
        "method": cell.method,
        "label": method.label,
        "group": method.group,
        "tasks": cell.tasks,
        "seed": cell.seed,
        "settings": cell.settings,
        "hash": cell.hash,
        "budget_cpu_seconds": getattr(cell.parts.get("train"), "budget_cpu_seconds", None),
        **result,
        "wall_seconds": time.perf_counter() - start,
        "machine": machine(),
    }


def _start_worker(parent: int) -> None:
    """Use one thread, so that the processor time is the cell's own, and end with the bench, even if it is killed."""
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
