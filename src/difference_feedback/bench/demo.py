"""The whole method in one run: GRPO and DF-GRPO at the same measured compute, from the same base, and a report.

Each arm is a process of its own with one thread, so that its processor time is its own:

    grpo          the policy by GRPO until the budget is spent
    df_grpo       the repair model (SFT, then RL), then the policy by DF-GRPO until the same budget is spent
    upper_bound   supervised training on the labels of the RL images
"""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from difference_feedback.errors import DifferenceFeedbackError
from difference_feedback.runs.check import check
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import read_rows
from difference_feedback.runs.recipes import DemoRecipe, TrainRecipe

ARMS = ("grpo", "df_grpo", "upper_bound")


def run_demo(recipe: DemoRecipe, run: Run) -> Path:
    """Run the arms side by side, compare them in summary.json, print a table, and return the report's path.

    An interrupted demo goes on where each arm stood; a finished arm is not run again.
    """
    from difference_feedback.report import write_report

    console = Console()
    if not run.finished:
        check(recipe)
        console.print(f"Folder: {run.folder}. Each arm writes its own log there.")
        _run_arms(recipe, run)
        run.finish(_summarise(run))
    report = write_report([run.folder])
    console.print(_table(run.summary()))
    if guards := _summary_of(run, "repair_rl").get("factors"):
        console.print(_guards(guards))
    print(f"Report: {report}")
    return report


def _run_arms(recipe: DemoRecipe, run: Run) -> None:
    processes = multiprocessing.get_context("spawn")
    workers = min(len(ARMS), max(1, os.cpu_count() or 1))
    with ProcessPoolExecutor(workers, processes, initializer=_one_thread) as pool:
        futures = {arm: pool.submit(_run_arm, arm, recipe, run.folder) for arm in ARMS}
        try:
            _watch(futures, recipe, run)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _run_arm(arm: str, recipe: DemoRecipe, folder: Path) -> None:
    """One arm, in its own process; what it prints goes to a log file."""
    run: Callable[[DemoRecipe, Run], None] = {"grpo": _grpo, "df_grpo": _df_grpo, "upper_bound": _upper_bound}[arm]
    _send_output_to(folder / f"{arm}.log")
    run(recipe, Run(folder, recipe))


def _grpo(recipe: DemoRecipe, demo: Run) -> None:
    from difference_feedback.policy.train import train

    part = recipe.grpo.model_copy(update={"seed": recipe.seed, "budget_cpu_seconds": recipe.budget_cpu_seconds})
    run = demo.child("grpo", part)
    if not run.finished:
        train(part, run)


def _df_grpo(recipe: DemoRecipe, demo: Run) -> None:
    from difference_feedback.policy.train import train

    repair_model, spent = _train_repair_model(recipe, demo)
    part = recipe.df_grpo.model_copy(
        update={
            "seed": recipe.seed,
            "repair_model": str(repair_model),
            "budget_cpu_seconds": recipe.budget_cpu_seconds,
        }
    )
    run = demo.child("df_grpo", part)
    if not run.finished:
        train(part, run, already_spent=spent)
    if not (demo.folder / "examples.jsonl").is_file():
        _write_examples(recipe, demo, part, run)


def _train_repair_model(recipe: DemoRecipe, demo: Run) -> tuple[Path, float]:
    """Both stages. Returns the model's folder and the CPU seconds that making it took, all of which are billed."""
    from difference_feedback.repair.rl import train_rl
    from difference_feedback.repair.sft import train_sft

    sft = recipe.repair_sft.model_copy(update={"seed": recipe.seed})
    sft_run = demo.child("repair_sft", sft)
    if not sft_run.finished:
        train_sft(sft, sft_run)
    rl = recipe.repair_rl.model_copy(update={"seed": recipe.seed, "model": str(sft_run.model_path)})
    rl_run = demo.child("repair_rl", rl)
    if not rl_run.finished:
        train_rl(rl, rl_run)
    return rl_run.model_path, sft_run.summary()["cpu_seconds"] + rl_run.summary()["cpu_seconds"]


def _upper_bound(recipe: DemoRecipe, demo: Run) -> None:
    from difference_feedback.bench.base import measure, train_upper_bound
    from difference_feedback.world.nano import load_base

    run = demo.child("upper_bound", recipe)
    if run.finished:
        return
    run.rewind(-1)  # not resumed but made anew
    model, processor = load_base()
    start = time.process_time()
    train_upper_bound(model, processor, run, recipe.upper_bound_steps, seed=recipe.seed)
    spent = time.process_time() - start
    run.finish(measure(model, processor, recipe.evaluation).summary() | {"cpu_seconds": spent})


def _write_examples(recipe: DemoRecipe, demo: Run, part: TrainRecipe, run: Run) -> None:
    """Wrong answers of the base, repaired as they were in the DF-GRPO run."""
    from difference_feedback.policy.train import host_config, load_repairer
    from difference_feedback.report.examples import make_examples
    from difference_feedback.runs.jsonl import write_jsonl
    from difference_feedback.world import sample_problems
    from difference_feedback.world.nano import load_base

    config = host_config(part, run)
    model, processor = load_base()
    repairer = load_repairer(part, config, model, processor)
    problems = sample_problems("rl", 3 * recipe.examples, recipe.seed + 1)
    options = {"num_repairs": config.num_repairs, "seed": recipe.seed}
    found = make_examples(model, processor, repairer, problems, recipe.examples, **options)
    write_jsonl(demo.folder / "examples.jsonl", (example.model_dump(mode="json") for example in found))


def _watch(futures: dict[str, Future[None]], recipe: DemoRecipe, run: Run) -> None:
    """Show how far each arm is until all are done. An arm that fails ends the demo, with the end of its log."""
    columns = (TextColumn("{task.description:>16}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), TextColumn("{task.fields[note]}")) as progress:
        bars = {arm: progress.add_task(arm, total=1.0, note="") for arm in futures}
        while True:
            for arm, future in futures.items():
                if future.done():
                    _check(future, arm, run)
                    progress.update(bars[arm], completed=1.0, note="done")
                else:
                    _show(progress, bars[arm], arm, recipe, run)
            if all(future.done() for future in futures.values()):
                return
            time.sleep(0.5)


def _check(future: Future[None], arm: str, run: Run) -> None:
    error = future.exception()
    if error is None:
        return
    log = run.folder / f"{arm}.log"
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]) if log.is_file() else ""
    raise DifferenceFeedbackError(f"The arm {arm} failed: {error}\nThe end of {log}:\n{tail}") from error


def _show(progress: Progress, bar: TaskID, arm: str, recipe: DemoRecipe, run: Run) -> None:
    if arm == "upper_bound":
        rows = read_rows(run.folder / arm / "metrics.jsonl")
        if rows:
            progress.update(bar, completed=rows[-1]["step"] / recipe.upper_bound_steps, note="supervised")
        return
    stages = ["repair_sft", "repair_rl", arm] if arm == "df_grpo" else [arm]
    for stage in reversed(stages):
        rows = read_rows(run.folder / stage / "metrics.jsonl")
        if rows:
            spent = rows[-1].get("cpu_seconds") if stage == arm else None
            note = f"{stage}, step {rows[-1].get('step', 0)}"
            share = spent / recipe.budget_cpu_seconds if spent else None
            progress.update(bar, completed=share, note=note)
            return


def _summarise(run: Run) -> dict[str, Any]:
    """summary.json, by the schema of `report.data`."""
    grpo, df_grpo, bound, sft, rl = (
        _summary_of(run, name) for name in ("grpo", "df_grpo", "upper_bound", "repair_sft", "repair_rl")
    )
    return {
        "base_accuracy": grpo["base_accuracy"],
        "upper_bound": bound["accuracy"],
        "upper_bound_interval": bound["interval"],
        "upper_bound_cpu_seconds": bound["cpu_seconds"],
        "methods": {"GRPO": grpo | {"folder": "grpo"}, "DF-GRPO": df_grpo | {"folder": "df_grpo"}},
        "repair": {
            "stages": [
                _stage("start", sft["before"], 0.0),
                _stage("SFT", sft["after"], sft["cpu_seconds"]),
                _stage("RL", rl["after"], rl["cpu_seconds"]),
            ],
            "oracle_edit_cost": rl["after"]["oracle_edit_cost"],
        },
        "cost": df_grpo.get("cost"),
    }


def _summary_of(run: Run, child: str) -> dict[str, Any]:
    return json.loads((run.folder / child / "summary.json").read_text(encoding="utf-8"))


def _stage(name: str, quality: dict[str, Any], cpu_seconds: float) -> dict[str, Any]:
    figures = {"accuracy": quality["accuracy_at_1"], "feasible": quality["feasible_share"]}
    return quality | figures | {"name": name, "cpu_seconds": cpu_seconds}


def _table(summary: dict[str, Any]) -> Table:
    methods = summary["methods"]
    table = Table(title=f"Held-out accuracy, {methods['GRPO']['problems']} problems on images never seen in training")
    table.add_column("", no_wrap=True)
    for column in ("accuracy", "95 % interval", "updates", "CPU s", "repair model's"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_row("base", f"{summary['base_accuracy']:.1%}")
    for name, result in methods.items():
        low, high = result["interval"]
        setup = f"{result['setup_cpu_seconds']:.0f}"
        table.add_row(
            *(name, f"{result['accuracy']:.1%}", f"{low:.0%} – {high:.0%}", str(result["steps"])),
            *(f"{result['cpu_seconds']:.0f}", setup),
        )
    low, high = summary["upper_bound_interval"]
    bound = (f"{summary['upper_bound']:.1%}", f"{low:.0%} – {high:.0%}", "")
    table.add_row("upper bound", *bound, f"{summary['upper_bound_cpu_seconds']:.0f}", "")
    return table


def _guards(factors: dict[str, Any]) -> Table:
    """The guards of the repair model's reward, in short. [DF, Eqs. 3-4]"""
    table = Table(title="Guards of the repair model's reward, over its training")
    for column in ("guard", "open for", "what it met"):
        table.add_column(column)

    def share(value: float | None) -> str:
        return "off" if value is None else f"{value:.0%} of repairs"

    blind, audit = factors["right_without_image"], factors.get("audit")
    met = "" if blind is None else f"{blind:.0%} of repairs from a blank or noise image were right"
    table.add_row("needs the image", share(factors["visual_kept"]), met)
    hits = ", ".join(f"{mode.replace('_', ' ')} {count}" for mode, count in audit["hits"].items()) if audit else ""
    met = f"{audit['judged']} right repairs judged, objections: {hits}" if audit else ""
    table.add_row("auditor", share(factors["audit_kept"]), met)
    return table


def _send_output_to(path: Path) -> None:
    """What this process prints from now on, its libraries included, goes to a file."""
    with path.open("a", encoding="utf-8") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())
