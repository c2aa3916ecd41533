"""Run one cell of a plan in its folder, from its last checkpoint on, and return its result as one row.

Tables and plots are made from the rows alone. See `bench.results` for the fields of a row.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from difference_feedback.bench.base import measure, train_upper_bound
from difference_feedback.bench.cells import Cell
from difference_feedback.bench.drift import kl_from_start
from difference_feedback.bench.policy_sft import train_policy_sft
from difference_feedback.bench.results import mask_figures, repair_figures
from difference_feedback.bench.watch import CountWork, MeasureMasks, work_of
from difference_feedback.errors import DataError
from difference_feedback.models.flops import FlopMeter, Work
from difference_feedback.models.load import load_model
from difference_feedback.policy.train import train
from difference_feedback.repair.rl import train_rl
from difference_feedback.repair.sft import train_sft
from difference_feedback.runs.folder import SHARED, Run
from difference_feedback.runs.jsonl import to_json
from difference_feedback.runs.kernel_lock import KernelLock
from difference_feedback.runs.loading import fingerprint
from difference_feedback.runs.outputs import write_atomically
from difference_feedback.runs.recipes import (
    BenchRecipe,
    EvaluateRecipe,
    Recipe,
    RepairRLRecipe,
    RepairSFTRecipe,
    TrainRecipe,
)
from difference_feedback.world import sample_problems

Setup = tuple[Path, float, Work]
"""A model that was trained first: its folder, the CPU seconds and the work that it took."""


def run_cell(plan: BenchRecipe, cell: Cell, root: Path) -> dict[str, Any]:
    """Run or continue `cell` below `root`, and return its row. The result depends on the cell alone."""
    kinds = {"base": _base, "supervised": _supervised, "train": _train}
    return kinds[plan.methods[cell.method].kind](plan, cell, root)


def _base(plan: BenchRecipe, cell: Cell, root: Path) -> dict[str, Any]:
    run = Run(root / "cells" / cell.name, EvaluateRecipe(evaluation=plan.evaluation, tasks=plan.tasks[cell.tasks]))
    if not run.finished:
        run.finish(measure(*load_model("nano"), plan.evaluation, plan.tasks[cell.tasks]).summary())
    return _row(run, run.summary() | {"cpu_seconds": 0.0}, Work())


def _supervised(plan: BenchRecipe, cell: Cell, root: Path) -> dict[str, Any]:
    tasks = plan.tasks[cell.tasks]
    run = Run(root / "cells" / cell.name, EvaluateRecipe(evaluation=plan.evaluation, tasks=tasks, seed=cell.seed))
    if not run.finished:
        run.rewind(-1)  # it is not resumed: it starts again
        model, processor = load_model("nano")
        start = time.process_time()
        with FlopMeter() as meter:
            train_upper_bound(model, processor, run, plan.methods[cell.method].steps, seed=cell.seed, tasks=tasks)
        spent = time.process_time() - start
        _write_work(run, meter.work)
        run.finish(measure(model, processor, plan.evaluation, tasks).summary() | {"cpu_seconds": spent})
    return _row(run, run.summary(), _read_work(run))


def _train(plan: BenchRecipe, cell: Cell, root: Path) -> dict[str, Any]:
    method = plan.methods[cell.method]
    setup: list[Setup] = []
    repair_model: Path | None = None
    recipe = cell.parts["train"]
    assert isinstance(recipe, TrainRecipe)
    if method.oracle_repairs_first:
        sft = cell.parts["sft"]
        assert isinstance(sft, RepairSFTRecipe)
        setup.append(_shared(sft, root, "policy_sft", lambda run: train_policy_sft(sft, run)))
        recipe = recipe.model_copy(update={"model": str(setup[-1][0])})
    if method.repair_model:
        stages = _repair_model(cell.parts, root)
        repair_model = stages[-1][0]
        recipe = recipe.model_copy(update={"repair_model": str(repair_model)})
        setup += stages
    run = Run(root / "cells" / cell.name, recipe)
    if not run.finished:
        watchers = [CountWork(), MeasureMasks()]
        train(recipe, run, already_spent=sum(seconds for _, seconds, _ in setup), watchers=watchers)
    if not isinstance(drift := _read(run.folder / "drift.json"), float):
        drift = _drift(recipe, run)
        write_atomically(run.folder / "drift.json", to_json(drift))
    work = Work()
    for _, _, spent in setup:
        work += spent
    rows = [row for row in run.metrics() if "flops/forward" in row]
    if rows:
        work += work_of(rows[-1])
    summary = run.summary()
    cost = summary.get("cost", {}).get("cpu")
    figures = {
        "masks": mask_figures(run.metrics()),
        "cost": cost if cost and cost["repaired"] else None,
        "repairs": repair_model and repair_figures(repair_model.parent),
    }
    return _row(run, summary, work) | {"kl_from_start": drift} | figures


def _repair_model(parts: dict[str, Recipe], root: Path) -> list[Setup]:
    """The stages of its training. Each runs once for all cells that share it, and its time counts for each of them."""
    sft = parts["sft"]
    assert isinstance(sft, RepairSFTRecipe)
    stages = [_shared(sft, root, "repair_sft", lambda run: train_sft(sft, run))]
    if "rl" in parts:
        assert isinstance(parts["rl"], RepairRLRecipe)
        rl = parts["rl"].model_copy(update={"model": str(stages[0][0])})
        stages.append(_shared(rl, root, "repair_rl", lambda run: train_rl(rl, run)))
    return stages


def _shared(recipe: Recipe, root: Path, name: str, make: Callable[[Run], Any]) -> Setup:
    folder = root / "shared" / f"{name}-{fingerprint(recipe)}"
    if not folder.is_dir() and (model := SHARED.search(getattr(recipe, "model", ""))):  # wherever the bench lies
        of_any_place = recipe.model_copy(update={"model": model[0].lstrip("/")})
        folder = root / "shared" / f"{name}-{fingerprint(of_any_place)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with KernelLock(f"{folder}.lock"):
        with FlopMeter() as meter:
            run = _CountedRun(folder, recipe, meter)
            if not run.finished:
                make(run)
        run.close()  # the next cell's process opens the same folder
    return run.model_path, run.summary()["cpu_seconds"], _read_work(run)


class _CountedRun(Run):
    """A run that writes its work before the summary that ends it. Where it was interrupted, it starts again."""

    def __init__(self, folder: Path, recipe: Recipe, meter: FlopMeter) -> None:
        super().__init__(folder, recipe)
        self.meter = meter

    def last_checkpoint(self) -> Path | None:
        """None: a checkpoint does not say what work it took to get there."""
        return None

    def finish(self, summary: Mapping[str, Any]) -> Path:
        _write_work(self, self.meter.work)
        return super().finish(summary)


def _drift(recipe: TrainRecipe, run: Run) -> float:
    policy, processor = load_model(str(run.model_path))
    problems = sample_problems("repair", 120, recipe.evaluation.seed, recipe.tasks)
    return kl_from_start(policy, load_model("nano")[0], processor, problems, seed=recipe.evaluation.seed)


def _row(run: Run, summary: dict[str, Any], work: Work) -> dict[str, Any]:
    """The results of a finished run; `bench.runner` adds the cell."""
    metrics = run.metrics()
    curve = [[row["cpu_seconds"], row["accuracy"], row["problems"]] for row in metrics if "accuracy" in row]
    entropy = [row["entropy"] for row in metrics if row.get("entropy") is not None]
    return {
        "accuracy": summary["accuracy"],
        "problems": summary["problems"],
        "by_task": summary["tasks"],
        "cpu_seconds": summary["cpu_seconds"],
        "setup_cpu_seconds": summary.get("setup_cpu_seconds", 0.0),
        "steps": summary.get("steps"),
        "work": asdict(work),
        "curve": curve if "steps" in summary else [],
        "entropy": [sum(part) / len(part) for part in (entropy[:10], entropy[-10:])] if entropy else None,
        "versions": run.versions,
    }


def _write_work(run: Run, work: Work) -> None:
    write_atomically(run.folder / "work.json", to_json(asdict(work)))


def _read_work(run: Run) -> Work:
    path = run.folder / "work.json"
    if not path.is_file():
        return Work()
    if not isinstance(values := _read(path), dict):
        raise DataError(f"{path} is cut off, or was changed by hand: remove the folder, and its run is made again.")
    return Work(**values)


def _read(path: Path) -> Any:
    """What a file of JSON holds; None if it is missing or was cut off."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
