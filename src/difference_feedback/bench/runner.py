"""Run a plan's cells, several at a time, and write a row when each ends. An interrupted bench continues."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from difference_feedback.bench.cells import Cell, cells_of, check_plan, check_settings
from difference_feedback.bench.results import ResultRow, load_results, machine
from difference_feedback.errors import DifferenceFeedbackError
from difference_feedback.runs.jsonl import JsonLines, read_rows
from difference_feedback.runs.loading import dump_recipe
from difference_feedback.runs.lock import holding
from difference_feedback.runs.outputs import explain, refusal, write_atomically
from difference_feedback.runs.recipes import BenchRecipe
from difference_feedback.runs.safe_path import use_safe_path


def run_bench(plan: BenchRecipe, root: Path, jobs: int = 1, only: Collection[str] | None = None) -> list[ResultRow]:
    """Run the cells of `plan` that `root`/results.jsonl does not hold yet, `jobs` at a time; return the plan's rows.

    `only` runs the cells of these methods alone. Each cell is a run in a folder below `root`/cells and continues from
    its last checkpoint. Models that cells share are below `root`/shared. Without locks, which make other cells wait for
    such a model, one cell runs at a time. A cell that fails or is killed stops no
    other: whichever needs its shared model next makes it. The error at the end names all that failed.

    Raises `ConfigError` for a plan that contradicts itself, for a cell that cannot run (before the first one runs), and
    where another bench is at work in `root`; `DifferenceFeedbackError` for cells that failed.
    """
    cells = cells_of(plan, only)
    done = {row["hash"] for row in load_results(root / "results.jsonl")}
    todo = [cell for cell in cells if cell.hash not in done]
    check_plan(plan, todo)
    if todo:  # a finished bench need not import TRL
        check_settings(plan, todo)
    with holding(root) as held:
        write_atomically(root / "config.yaml", dump_recipe(plan))
        return _run_missing(plan, cells, root, jobs if held.is_locked else 1)


def _run_missing(plan: BenchRecipe, cells: Sequence[Cell], root: Path, jobs: int) -> list[ResultRow]:
    results = root / "results.jsonl"
    done = {row["hash"] for row in load_results(results)}
    todo = [cell for cell in cells if cell.hash not in done]
    failed = _run(plan, todo, root, jobs, len(cells)) if todo else {}
    if failed:
        lines = [f"{name}: {error} (log: {root / 'cells' / f'{name}.log'})" for name, error in failed.items()]
        head = f"{len(failed)} of the cells failed; the same command tries these again."
        raise DifferenceFeedbackError("\n".join([head, *lines]))
    return named_rows(plan, load_results(results))


def named_rows(plan: BenchRecipe, rows: Iterable[ResultRow]) -> list[ResultRow]:
    """The rows of a plan's cells, in its order, with the names that it gives them.

    Another plan with the same cell may have run it, under another name: plans that share a folder share such results.
    """
    by_hash = {row["hash"]: row for row in rows}
    return [by_hash[cell.hash] | _names(plan, cell) for cell in cells_of(plan) if cell.hash in by_hash]


def _names(plan: BenchRecipe, cell: Cell) -> dict[str, Any]:
    method = plan.methods[cell.method]
    return {
        "method": cell.method,
        "label": method.label,
        "group": method.group,
        "tasks": cell.tasks,
        "seed": cell.seed,
        "settings": cell.settings,
    }


@dataclass(frozen=True)
class _Worker:
    """A cell that runs in a process of its own, and the pipe that its result comes through."""

    cell: Cell
    process: BaseProcess
    pipe: Connection

    @classmethod
    def start(cls, plan: BenchRecipe, cell: Cell, root: Path) -> "_Worker":
        processes = multiprocessing.get_context("spawn")
        pipe, end = processes.Pipe(duplex=False)
        process = processes.Process(target=_run_one, args=(plan, cell, root, end, os.getpid()), name=cell.name)
        process.start()
        end.close()  # the process has the only other one, so that its death closes the pipe
        return cls(cell, process, pipe)

    def outcome(self) -> ResultRow | str:
        """Its row, or what went wrong. Waits until its process has ended."""
        try:
            result = self.pipe.recv() if self.pipe.poll() else None
        except (EOFError, OSError):  # it was killed, perhaps while it sent
            result = None
        self.process.join()
        return _describe_end(self.process.exitcode) if result is None else result


def _run(plan: BenchRecipe, todo: Sequence[Cell], root: Path, jobs: int, total: int) -> dict[str, str]:
    """Run the cells, each in a process of its own: one that is killed takes no other with it. What failed, and why."""
    failed: dict[str, str] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    use_safe_path()
    waiting, running = deque(todo), list[_Worker]()
    with Progress(*columns) as progress:
        done = total - len(todo)
        bar = progress.add_task("cells", total=total, completed=done, note=f"{done} of {total}")
        bars: dict[str, TaskID] = {}
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    running.append(_Worker.start(plan, waiting.popleft(), root))
                ready = wait([end for worker in running for end in (worker.pipe, worker.process.sentinel)], timeout=2.0)
                for worker in [w for w in running if w.pipe in ready or w.process.sentinel in ready]:
                    running.remove(worker)
                    cell, outcome = worker.cell, worker.outcome()
                    if isinstance(outcome, str):
                        failed[cell.name] = outcome
                        progress.console.print(f"{cell.name} failed: {outcome}", markup=False)
                    else:
                        JsonLines(root / "results.jsonl").append(outcome)
                        figures = (
                            f"{outcome['accuracy']:.1%} of {outcome['problems']}, {outcome['cpu_seconds']:.0f} CPU s"
                        )
                        progress.console.print(f"{cell.name}: {figures}", markup=False, highlight=False)
                    done += 1
                    progress.update(bar, completed=done, note=f"{done} of {total}")
                    if cell.name in bars:
                        progress.remove_task(bars.pop(cell.name))
                for worker in running:
                    _show(progress, bars, plan, worker.cell, root)
        except BaseException:
            for worker in running:
                worker.process.terminate()
            raise
    return failed


def _describe_end(code: int | None) -> str:
    """Why a process ended without a result."""
    if code is None or code >= 0:
        return f"its process ended with exit code {code} and without a result"
    killed = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    if -code == signal.SIGKILL:
        return f"its process was killed ({killed}), as systems do when memory runs out: run fewer --jobs at a time"
    return f"its process was ended by {killed}"


def _show(progress: Progress, bars: dict[str, TaskID], plan: BenchRecipe, cell: Cell, root: Path) -> None:
    """A line for a running cell: its step and CPU seconds, or those of the model that is trained first."""
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


def _run_one(plan: BenchRecipe, cell: Cell, root: Path, pipe: Connection, parent: int) -> None:
    """One cell, in its process: send its row, or what went wrong. What it prints goes to a log beside its folder."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        log = root / "cells" / f"{cell.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
                os.dup2(file.fileno(), stream.fileno())
        pipe.send(_row(plan, cell, root))
    except Exception as error:
        refused = refusal(error)
        known = str(error) if isinstance(error, DifferenceFeedbackError) else f"{type(error).__name__}: {error}"
        pipe.send(known if refused is None else explain(refused, root / "cells" / cell.name))
        raise  # the traceback goes to the log


def _row(plan: BenchRecipe, cell: Cell, root: Path) -> ResultRow:
    import torch

    from difference_feedback.bench.run_cell import run_cell

    torch.set_num_threads(1)  # so that the processor time is the cell's own
    start = time.perf_counter()
    result = run_cell(plan, cell, root)
    return {
        **_names(plan, cell),
        "hash": cell.hash,
        "budget_cpu_seconds": getattr(cell.parts.get("train"), "budget_cpu_seconds", None),
        **result,
        "wall_seconds": time.perf_counter() - start,
        "machine": machine(),
    }


def _end_with(parent: int) -> None:
    """End with the bench, even if it is killed."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
