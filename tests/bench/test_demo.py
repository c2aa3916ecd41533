"""The demo, whole and small: all methods train within the budget, and a second call trains nothing."""

import pytest
from overwritten import left_after_overwriting

from difference_feedback.annotate.items import find_work
from difference_feedback.bench.demo import run_demo
from difference_feedback.bench.results import load_results
from difference_feedback.report.collect import load_report
from difference_feedback.runs.folder import Run
from difference_feedback.runs.loading import build_recipe, load_recipe, load_values
from difference_feedback.runs.recipes import BenchRecipe

BUDGET = 5.0
SMALL = [
    *(f"budget_cpu_seconds={BUDGET}", "examples=2", "evaluation={problems: 12, every: 0}"),
    *("repair_sft.drafts=16", "repair_sft.trl.max_steps=1", "repair_sft.evaluation.problems=12"),
    *("repair_rl.drafts=16", "repair_rl.trl.max_steps=1", "repair_rl.evaluation.problems=12"),
    *("repair_rl.trl.per_device_train_batch_size=16", "train.trl.per_device_train_batch_size=16"),
    "methods.supervised.steps=1",
]


@pytest.mark.slow
def test_the_whole_method_end_to_end(tmp_path, capsys):
    values = load_values("demo", BenchRecipe)
    del values["methods"]["oracle"]  # a plain DF-GRPO run without a repair model to train: see `test_runner.py`
    plan = build_recipe(BenchRecipe, values, SMALL)
    run = Run(tmp_path / "demo", plan)
    report = run_demo(plan, run)

    rows = {row["method"]: row for row in load_results(run.folder / "results.jsonl")}
    for method in ("grpo", "df_grpo"):
        assert rows[method]["steps"] > 0
        # A run stops after the step in which the budget is spent.
        seconds = rows[method]["cpu_seconds"]
        assert BUDGET <= seconds < BUDGET + 3 * seconds / rows[method]["steps"] + 2
    data = load_report([run.folder])
    assert list(data.methods) == ["GRPO", "DF-GRPO"]
    assert [curve.name for curve in data.curves] == ["GRPO", "DF-GRPO"]
    assert (data.base_accuracy, data.upper_bound) == (rows["base"]["accuracy"], rows["supervised"]["accuracy"])
    stages = {stage.name: stage.cpu_seconds for stage in data.repair.stages}
    assert list(stages) == ["start", "SFT", "RL"]
    assert data.methods["DF-GRPO"].setup_cpu_seconds == pytest.approx(stages["SFT"] + stages["RL"])
    assert data.methods["GRPO"].setup_cpu_seconds == 0
    assert 0 < len(data.examples) <= 2
    assert "DF-GRPO" in data.costs

    printed = capsys.readouterr().out
    (factors,) = data.factors.values()
    for shown in ("needs the image", f"{factors.audit.judged} right repairs judged"):
        assert shown in printed
        assert shown in report.read_text()
    assert printed.strip().splitlines()[-1].endswith("report.html")
    repairs, audits = find_work(run.folder)
    assert len(repairs.rows) == len(data.examples)
    assert len(audits.rows) == factors.audit.judged

    assert {"items.jsonl", "examples.jsonl", "cells", "shared"} <= {path.name for path in run.folder.iterdir()}
    assert left_after_overwriting(run) == set()
    before = {path: path.stat().st_mtime for path in run.folder.rglob("*.safetensors")}
    again = Run(tmp_path / "demo", plan)
    assert again.finished
    run_demo(plan, again)
    assert {path: path.stat().st_mtime for path in run.folder.rglob("*.safetensors")} == before
    Run(tmp_path / "demo", plan, overwrite=True)
    assert not list(run.folder.rglob("*.safetensors")), "--overwrite starts anew"


def test_its_parts_are_the_shipped_recipes_with_the_budget_and_the_ceiling_s_repairs_on_top():
    from difference_feedback.bench.cells import cells_of

    plan = load_recipe("demo", BenchRecipe, ["train.trl.learning_rate=3e-5"])
    cells = {cell.method: cell.parts for cell in cells_of(plan)}
    for method in ("grpo", "df_grpo", "oracle"):
        train = cells[method]["train"]
        assert train.trl["learning_rate"] == 3e-5
        assert (train.budget_cpu_seconds, train.evaluation.embedded_problems, train.evaluation.every) == (
            240.0,
            300,
            100,
        )
    assert set(cells["df_grpo"]) == {"sft", "rl", "train"}
    assert set(cells["oracle"]) == {"train"}
    assert cells["oracle"]["train"].repair_model == "oracle"
    assert cells["df_grpo"]["train"].trl["num_repairs"] == 2
