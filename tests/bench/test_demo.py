"""The demo, whole and small: every arm trains, the bill is kept, a report is written, a second call starts nothing."""

import json

import pytest

from difference_feedback.bench.demo import run_demo
from difference_feedback.runs.folder import Run
from difference_feedback.runs.loading import build_recipe
from difference_feedback.runs.recipes import DemoRecipe

SMALL = [
    *("budget_cpu_seconds=14", "upper_bound_steps=3", "examples=3", "evaluation.problems=24"),
    *("grpo.evaluation={problems: 24, every: 0}", "df_grpo.evaluation={problems: 24, every: 0}"),
    *("repair_sft.drafts=24", "repair_sft.trl.max_steps=3", "repair_sft.evaluation.problems=24"),
    *("repair_rl.drafts=16", "repair_rl.trl.max_steps=1", "repair_rl.evaluation.problems=24"),
]


@pytest.mark.slow
def test_the_whole_method_end_to_end(tmp_path, capsys):
    recipe = build_recipe(DemoRecipe, {}, SMALL)
    run = Run(tmp_path / "demo", recipe)
    report = run_demo(recipe, run)
    summary = json.loads((run.folder / "summary.json").read_text())
    grpo, df_grpo = summary["methods"]["GRPO"], summary["methods"]["DF-GRPO"]
    assert grpo["base_accuracy"] == df_grpo["base_accuracy"] == summary["base_accuracy"]
    for method in (grpo, df_grpo):
        assert method["steps"] > 0
        # A run stops after the step in which the budget is spent.
        assert 14 <= method["cpu_seconds"] < 14 + 3 * method["cpu_seconds"] / method["steps"] + 2
    stages = {stage["name"]: stage for stage in summary["repair"]["stages"]}
    assert list(stages) == ["start", "SFT", "RL"]
    billed = stages["SFT"]["cpu_seconds"] + stages["RL"]["cpu_seconds"]
    assert df_grpo["setup_cpu_seconds"] == pytest.approx(billed)
    assert grpo["setup_cpu_seconds"] == 0
    examples = (run.folder / "examples.jsonl").read_text().splitlines()
    assert 0 < len(examples) <= 3
    assert "<script" in report.read_text()
    printed = capsys.readouterr().out
    guards = json.loads((run.folder / "repair_rl" / "summary.json").read_text())["factors"]
    for shown in ("needs the image", f"{guards['audit']['judged']} right repairs judged"):
        assert shown in printed
        assert shown in report.read_text()
    assert printed.strip().splitlines()[-1].endswith("report.html")

    before = {path: path.stat().st_mtime for path in run.folder.rglob("*.safetensors")}
    again = Run(tmp_path / "demo", recipe)
    assert again.finished
    run_demo(again.recipe, again)
    assert {path: path.stat().st_mtime for path in run.folder.rglob("*.safetensors")} == before


def test_parts_are_the_shipped_recipes_with_changes_on_top():
    recipe = build_recipe(DemoRecipe, {}, ["grpo.trl.learning_rate=3e-5"])
    shipped = build_recipe(DemoRecipe, {})
    assert recipe.grpo.trl == shipped.grpo.trl | {"learning_rate": 3e-5}
    assert recipe.df_grpo == shipped.df_grpo
    assert (recipe.grpo.method, recipe.df_grpo.method) == ("grpo", "df-grpo")
