"""`evaluate MODEL TASK...` with the real harness: each score is the one worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmark_rows import ROWS, TASKS, by_harness, by_rule
from replay import Replay
from typer.testing import CliRunner

from difference_feedback.cli import app
from difference_feedback.judges.intervals import mean_interval, wilson_interval
from difference_feedback.report.collect import load_report
from difference_feedback.runs.jsonl import read_rows

pytestmark = pytest.mark.benchmarks


def run(*words: str, code: int = 0) -> str:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["evaluate", *map(str, words)])
    assert result.exit_code == code, result.output
    return result.output


def with_copies(copies: dict[str, Path], *names: str) -> list[str]:
    return [word for name in names for word in ("--task-data", f"{name}={copies[name]}")]


def summary(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / TASKS[name] / "summary.json").read_text())


def test_all_six(copies: dict[str, Path], tiny: Path, replay: Replay, tmp_path: Path) -> None:
    words = [tiny, *TASKS, *with_copies(copies, *TASKS), f"endpoint.url={replay.url}", "--output", tmp_path]
    output = run(*words)
    for name, task in TASKS.items():
        scores, rows = summary(tmp_path, name), ROWS[name]
        right = sum(case.right for case in rows)
        assert scores["score"] == by_rule(name), name
        assert scores["interval"] == list(wilson_interval(right, len(rows)))
        assert (scores["problems"], scores["right"], scores["unjudged"], scores["cut_off"]) == (len(rows), right, 0, 0)
        assert f"{by_rule(name):.1%}" in output
        written = read_rows(tmp_path / task / "predictions.jsonl")
        assert [row["response"] for row in written] == [case.response for case in rows]
        assert [row["correct"] for row in written] == [case.right for case in rows]
        assert len({row["id"] for row in written}) == len(rows)
        assert all(row["extracted"] and row["rule"] for row in written)
        assert not (tmp_path / task / "images").exists()
    for name in ("mmstar", "mmmu", "mathvision", "ai2d"):
        assert summary(tmp_path, name)["harness_score"] == pytest.approx(by_harness(name), abs=1e-4), name
    for name in ("mathvista", "mathverse"):  # without a judge, no server is asked, and none is guessed at
        assert summary(tmp_path, name)["harness_left_out"] == "it asks a judge"
        assert summary(tmp_path, name)["harness_score"] is None
    assert len(replay.requests) == sum(map(len, ROWS.values()))

    replay.forget()
    assert run(*words) in output, "a finished task is not run again, and its scores are shown"
    assert replay.requests == []

    [(_, shown)] = load_report([tmp_path]).benchmarks.items()
    assert {score.task: score.share for score in shown} == {TASKS[name]: by_rule(name) for name in TASKS}
    page = tmp_path / "page.html"
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["report", str(tmp_path), "--output", str(page)])
    assert result.exit_code == 0
    mean = sum(map(by_rule, TASKS)) / len(TASKS)
    low, high = mean_interval([(by_rule(name), len(ROWS[name])) for name in TASKS])
    for text in (page.read_text(), result.output):
        assert f"{100 * mean:.1f}" in text
        assert f"{100 * low:.1f} – {100 * high:.1f}" in text
