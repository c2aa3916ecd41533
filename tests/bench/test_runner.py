"""A bench end to end on a tiny plan, with real nano runs: killed, resumed, grown, and read back."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.progress import Progress

from difference_feedback.bench import runner
from difference_feedback.bench.cells import cells_of
from difference_feedback.bench.results import load_results, mask_figures
from difference_feedback.bench.runner import _show, run_bench
from difference_feedback.errors import ConfigError
from difference_feedback.method.cost import ledger
from difference_feedback.report.collect import load_report
from difference_feedback.runs.jsonl import JsonLines, read_rows
from difference_feedback.runs.loading import build_recipe, load_recipe
from difference_feedback.runs.recipes import BenchRecipe
from difference_feedback.runs.yaml_text import parse_yaml

PLAN = """
kind: bench
seeds: [0]
budget_cpu_seconds: 300
evaluation: {problems: 12, curve_problems: 6, every: 2}
repair_sft: {drafts: 8, evaluation: {problems: 6}, trl: {max_steps: 1, per_device_train_batch_size: 8}}
train:
  problems: 48
  trl: {max_steps: 4, save_steps: 2, per_device_train_batch_size: 16, num_generations: 4}
methods:
  base: {label: base, kind: base}
  oracle:
    label: oracle's repairs
    recipe: nano_df_grpo
    set: {repair_model: oracle, trl: {weights: random, num_repairs: 1, max_steps: 8}}
  df: {label: DF-GRPO, recipe: nano_df_grpo, repair_model: sft, against: [base, oracle]}
"""


def start(plan: Path, root: Path, *more: str) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "difference_feedback.cli", "bench", str(plan), "-o", str(root), *more]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, process: subprocess.Popen, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "the bench did not get there"
        time.sleep(0.02)


def check_cost(cell: Path, row: dict[str, Any]) -> None:
    """TRL's log, the summary, the bench's row, the report and the budget agree on what the run cost."""
    rows, summary = read_rows(cell / "metrics.jsonl"), json.loads((cell / "summary.json").read_text())
    terms = ledger(rows).terms(row["cost"]["num_repairs"])
    assert row["cost"] == summary["cost"]["cpu"] == terms["cpu"].to_dict()
    (shown,) = load_report([cell]).costs.values()
    assert {clock: cost.to_dict() for clock, cost in shown.items()} == summary["cost"]
    assert terms["wall"].stages["rollout"] == pytest.approx(
        sum(each.get("df/seconds/rollout", 0.0) for each in rows) / row["steps"]
    )
    assert row["cost"]["answers"] == 16
    spent = row["cpu_seconds"] - row["setup_cpu_seconds"]
    assert row["cost"]["measured"] * row["steps"] == pytest.approx(spent, rel=0.02, abs=0.05)


@pytest.mark.slow
def test_a_killed_bench_goes_on_where_it_stopped(tmp_path: Path) -> None:
    plan, root = tmp_path / "tiny.yaml", tmp_path / "bench"
    plan.write_text(PLAN, encoding="utf-8")
    bench = start(plan, root)

    def folder() -> Path | None:
        return next((p for p in (root / "cells").glob("oracle-*") if p.is_dir()), None)

    def has_checkpoint() -> bool:
        return bool(folder()) and (folder() / "checkpoints" / "checkpoint-2" / "trainer_state.json").is_file()

    wait_for(has_checkpoint, bench)
    bench.send_signal(signal.SIGKILL)
    bench.wait()
    rows = load_results(root / "results.jsonl")
    assert [row["method"] for row in rows] == ["base"]
    assert not (folder() / "summary.json").is_file()

    # A last line that was cut off, as by a full disk, is no row and does no harm.
    with (root / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"method": "annot')
    time.sleep(1)  # the orphaned worker ends by itself
    again = start(plan, root)
    output = again.communicate(timeout=300)[0]
    assert again.returncode == 0, output
    rows = load_results(root / "results.jsonl")
    assert [row["method"] for row in rows] == ["base", "oracle", "df"]
    assert len((root / "results.jsonl").read_text().splitlines()) == 3
    oracle, df = rows[1:]
    steps = [row["step"] for row in read_rows(folder() / "metrics.jsonl") if "reward" in row]
    assert steps == list(range(1, 9)), "nothing is missing, and nothing counted twice"
    work = [row["flops/forward"] for row in read_rows(folder() / "metrics.jsonl") if "flops/forward" in row]
    assert work == sorted(work)
    assert (oracle["steps"], df["steps"]) == (8, 4)
    assert [point[2] for point in df["curve"]] == [6, 6, 6, 12]
    assert df["setup_cpu_seconds"] > 0
    assert df["cpu_seconds"] > df["setup_cpu_seconds"]
    assert oracle["setup_cpu_seconds"] == 0
    assert df["work"]["forward"] > 0
    assert df["work"]["backward"] > 0
    assert df["work"]["generated_tokens"] > 1000
    assert set(df["by_task"]) == {"chart", "count", "digits-max", "digits-sum", "grid-lookup", "order"}
    assert df["kl_from_start"] >= 0
    assert oracle["repairs"] is None
    assert 0 <= df["repairs"]["accuracy_at_1"] <= df["repairs"]["accuracy_at_2"] <= 1
    assert df["machine"]["cores"]
    assert oracle["masks"]["all"]["precision"] < 0.7, "random tokens miss the errors"

    for row in (oracle, df):  # the first was killed and went on from its checkpoint
        check_cost(next(p for p in (root / "cells").glob(f"{row['method']}-*") if p.is_dir()), row)

    # Finished cells are not run again; a second bench in the same folder is refused.
    recipe, logs = load_recipe(plan, BenchRecipe), {path: path.stat().st_mtime for path in root.rglob("*.log")}
    assert run_bench(recipe, root) == rows
    assert {path: path.stat().st_mtime for path in root.rglob("*.log")} == logs
    with FileLock(root / ".lock"), pytest.raises(ConfigError, match=r"(?s)bench.*--output"):
        run_bench(recipe, root)


def test_without_locks_cells_run_one_at_a_time(tmp_path: Path, no_locks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_run_missing", lambda plan, cells, root, jobs: jobs)
    plan = build_recipe(BenchRecipe, parse_yaml(PLAN, "plan"))
    assert run_bench(plan, tmp_path, jobs=3) == 1


def test_a_running_cell_shows_its_step_and_seconds_or_those_of_its_repair_model(tmp_path: Path) -> None:
    plan = build_recipe(BenchRecipe, parse_yaml(PLAN, "plan"))
    cell = next(cell for cell in cells_of(plan) if cell.method == "df")
    progress, bars = Progress(disable=True), {}
    _show(progress, bars, plan, cell, tmp_path)
    assert [task.description for task in progress.tasks] == [cell.name]
    shared, folder = tmp_path / "shared" / "repair_sft-1234", tmp_path / "cells" / cell.name
    for path in (shared, folder):
        path.mkdir(parents=True)
    for path, row, note, seconds in (
        (shared, {"step": 1, "loss": 0.5}, "repair_sft-1234, step 1", 0.0),
        (folder, {"step": 2, "cpu_seconds": 75.0}, "step 2, 75 CPU s", 75.0),
    ):
        (path / "metrics.jsonl").write_text(json.dumps(row) + "\n" + '{"step": 3, "cpu')
        _show(progress, bars, plan, cell, tmp_path)
        (task,) = progress.tasks
        assert (task.description, task.fields["note"]) == (cell.name, note)
        assert (task.completed, task.total) == (seconds, 300.0)


def test_the_later_of_two_rows_counts_and_a_cut_off_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    for accuracy in (0.1, 0.2):
        JsonLines(path).append({"hash": "a", "accuracy": accuracy})
    path.write_text(path.read_text() + '{"hash": "b", "acc')
    assert [row["accuracy"] for row in load_results(path)] == [0.2]
    JsonLines(path).append({"hash": "b", "accuracy": 0.3})
    assert [json.loads(line)["hash"] for line in path.read_text().splitlines()] == ["a", "a", "b"]


def test_mask_figures_by_hand() -> None:
    def row(**sums: float) -> dict[str, float]:
        return {f"mask/{name}": value for name, value in sums.items()}

    first = row(drafts=2, tokens=20, weight=5, errors=4, marked=5, hits=3, first_hits=1)
    other = row(drafts=1, tokens=10, weight=1, errors=2, marked=1, hits=1, first_hits=1)
    figures = mask_figures([first, {"reward": 1.0}, other])
    assert figures is not None
    assert figures["all"] == pytest.approx(
        {"precision": 4 / 6, "recall": 4 / 6, "f1": 8 / 12, "first_error": 2 / 3, "density": 6 / 30, "drafts": 3}
    )
    assert mask_figures([{"reward": 1.0}]) is None
