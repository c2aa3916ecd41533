"""A bench of which the system kills cells, as it does when memory runs out: those fail, and no other."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from difference_feedback.bench.results import load_results
from difference_feedback.bench.runner import _describe_end

pytestmark = pytest.mark.faults

PLAN = """
kind: bench
seeds: [0]
budget_cpu_seconds: 300
evaluation: {problems: 6, every: 0}
repair_sft: {drafts: 8, evaluation: {problems: 6}, trl: {max_steps: 40, per_device_train_batch_size: 8}}
train:
  problems: 8
  trl: {max_steps: 1, per_device_train_batch_size: 8, num_generations: 4}
methods:
  df: {label: DF-GRPO, recipe: nano_df_grpo, repair_model: sft}
  base: {label: base, kind: base}
  bound: {label: upper bound, kind: supervised, steps: 1}
"""


def start(plan: Path, root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "difference_feedback.cli", "bench", str(plan), "-o", str(root), "-j", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition: Callable[[], object], bench: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert bench.poll() is None, bench.communicate()[0]
        assert time.monotonic() < end, "the bench did not get there"
        time.sleep(0.02)


def test_a_cell_that_is_killed_takes_no_other_with_it(tmp_path: Path) -> None:
    """It is killed while it trains the repair model; the same command trains that, and runs this cell alone."""
    plan, root = tmp_path / "plan.yaml", tmp_path / "bench"
    plan.write_text(PLAN)
    bench = start(plan, root)
    wait_for(lambda: list((root / "shared").glob("*/metrics.jsonl")), bench)
    log = next((root / "cells").glob("df-*.log"))
    writes_to = {
        process.pid: process
        for process in psutil.Process(bench.pid).children()
        if os.path.realpath(f"/proc/{process.pid}/fd/1") == str(log)
    }
    (worker,) = writes_to.values()
    worker.send_signal(signal.SIGKILL)
    output = bench.communicate(timeout=180)[0]
    assert bench.returncode == 2, output
    assert "Traceback" not in output
    assert output.count("SIGKILL") == 2, "when it happens, and at the end"
    assert "memory" in output
    assert f"(log: {log})" in output
    assert {row["method"] for row in load_results(root / "results.jsonl")} == {"base", "bound"}

    before = {path: path.stat().st_mtime_ns for path in (root / "cells").rglob("*") if "df-" not in str(path)}
    again = start(plan, root)
    output = again.communicate(timeout=180)[0]
    assert again.returncode == 0, output
    assert {row["method"] for row in load_results(root / "results.jsonl")} == {"base", "bound", "df"}
    assert {path: path.stat().st_mtime_ns for path in before} == before, "finished cells do not run again"


def test_the_end_of_a_process_says_why() -> None:
    assert "memory" in _describe_end(-signal.SIGKILL)
    assert "SIGSEGV" in _describe_end(-signal.SIGSEGV)
    assert "signal 60" in _describe_end(-60)
    assert "exit code 3" in _describe_end(3)
