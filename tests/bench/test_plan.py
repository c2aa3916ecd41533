"""Plans: what they resolve to, what changes a cell's hash and what does not, and mistakes, reported by name."""

from pathlib import Path
from typing import Any

import pytest

from difference_feedback.bench.cells import cells_of, check_plan, check_settings
from difference_feedback.bench.runner import named_rows, run_bench
from difference_feedback.errors import ConfigError
from difference_feedback.runs.loading import build_recipe, load_recipe, shipped_recipes
from difference_feedback.runs.recipes import BenchRecipe

METHODS = {
    "base": {"label": "base", "kind": "base"},
    "grpo": {"label": "GRPO", "against": ["base"]},
    "df": {"label": "DF", "recipe": "nano_df_grpo", "repair_model": "sft", "set": {"trl": {"num_repairs": 1}}},
}


def plan(**changes: Any) -> BenchRecipe:
    values = {"kind": "bench", "seeds": [3, 1], "budget_cpu_seconds": 60.0, "methods": METHODS}
    return build_recipe(BenchRecipe, values | changes)


def hashes(made: BenchRecipe) -> dict[tuple[str, int], str]:
    return {(cell.method, cell.seed): cell.hash for cell in cells_of(made)}


def test_seeds_are_outermost_and_the_start_is_measured_once() -> None:
    assert [(c.method, c.seed) for c in cells_of(plan())] == [
        *(("base", 3), ("grpo", 3), ("df", 3)),
        *(("grpo", 1), ("df", 1)),
    ]
    assert [c.method for c in cells_of(plan(), only=["df"])] == ["df", "df"]


def test_what_stands_nearer_to_the_method_wins() -> None:
    made = plan(
        train={"problems": 77, "trl": {"learning_rate": 3e-4, "num_repairs": 5}},
        repair_sft={"drafts": 9},
        evaluation={"problems": 12, "every": 7},
    )
    df = next(cell for cell in cells_of(made) if cell.method == "df")
    train, sft = df.parts["train"], df.parts["sft"]
    assert (train.seed, train.problems, train.budget_cpu_seconds) == (3, 77, 60.0)
    assert (train.trl["learning_rate"], train.trl["num_repairs"], train.trl["temperature"]) == (3e-4, 1, 1.0)
    assert (train.evaluation.problems, train.evaluation.every, train.evaluation.batch_size) == (12, 7, 100)
    assert (sft.seed, sft.drafts) == (3, 9)


def test_a_method_may_have_a_repair_model_of_its_own_kind() -> None:
    common = METHODS["df"] | {"repair_model": "rl"}
    mild = common | {"repair_rl": {"edit_cost_weight": 0.2}, "repair_sft": {"drafts": 7}}
    made = plan(seeds=[0], repair_sft={"drafts": 9}, methods={"df": common, "mild": mild, "same": common})
    df, other, same = cells_of(made)
    assert (other.parts["sft"].drafts, other.parts["rl"].edit_cost_weight) == (7, 0.2)
    assert (df.parts["sft"].drafts, df.parts["rl"].edit_cost_weight) == (9, 0.5)
    assert df.hash == same.hash != other.hash
    # A cell that another plan has run, under another name there, is a result here, by the names of this plan.
    rows = [{"hash": df.hash, "method": "theirs", "label": "THEIRS", "accuracy": 0.5}, {"hash": "of another plan"}]
    named = [(row["method"], row["label"], row["accuracy"]) for row in named_rows(made, rows)]
    assert named == [("df", "DF", 0.5), ("same", "DF", 0.5)]


def test_a_sweep_multiplies_the_trained_methods() -> None:
    made = plan(seeds=[0], sweep={"trl.learning_rate": [1e-4, 2e-4], "trl.epsilon": [0.1, 0.2]})
    cells = cells_of(made)
    assert [cell.method for cell in cells] == ["base", *["grpo"] * 4, *["df"] * 4]
    assert {(c.parts["train"].trl["learning_rate"], c.parts["train"].trl["epsilon"]) for c in cells[1:5]} == {
        (1e-4, 0.1),
        (1e-4, 0.2),
        (2e-4, 0.1),
        (2e-4, 0.2),
    }
    assert "learning_rate=0.0002" in cells[3].name
    assert len({cell.hash for cell in cells}) == 9


def test_a_hash_changes_with_what_shapes_the_result_and_nothing_else() -> None:
    before = hashes(plan())
    renamed = {name: method | {"label": f"new {name}", "group": "weights"} for name, method in METHODS.items()}
    assert hashes(plan(methods=renamed)) == before
    assert hashes(plan(seeds=[1])).items() <= before.items() | {(("base", 1), hashes(plan(seeds=[1]))["base", 1])}
    for changes in ({"budget_cpu_seconds": 61.0}, {"train": {"problems": 3}}, {"evaluation": {"problems": 9}}):
        after = hashes(plan(**changes))
        assert all(after[key] != before[key] for key in after if key[0] != "base")
    other_repairs = hashes(plan(repair_sft={"drafts": 9}))
    assert other_repairs["grpo", 1] == before["grpo", 1]
    assert other_repairs["df", 1] != before["df", 1]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"methods": {"grpo": {"label": "GRPO", "against": ["bse"]}, "base": METHODS["base"]}}, ["'bse'", "'base'"]),
        ({"seeds": [1, 1]}, ["seeds", "twice"]),
        ({"seed": 4}, ["seed", "seeds='[4]'"]),
        ({"methods": {"x": {"label": "x", "kind": "base", "set": {"seed": 1}}}}, ["methods.x", "set"]),
        ({"methods": {"x": {"label": "x", "recipe": "nano_grop"}}}, ["nano_grop", "nano_grpo"]),
        ({"train": {"problem": 3}}, ["methods.grpo", "'problem'", "'problems'"]),
        ({"methods": {"x": METHODS["df"] | {"repair_rl": {"drafts": 9}}}}, ["methods.x.repair_rl", "repair_model: rl"]),
        ({"methods": {"x": METHODS["df"] | {"repair_sft": {"draft": 9}}}}, ["methods.x, repair_sft", "'drafts'"]),
    ],
)
def test_a_mistake_is_reported_before_anything_runs(changes: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        cells_of(plan(**changes))
    for part in parts:
        assert part in str(caught.value)


def test_an_unknown_method_cannot_be_chosen() -> None:
    with pytest.raises(ConfigError, match="'grpo'"):
        cells_of(plan(), only=["grp"])


def test_the_two_budgets_of_the_main_comparison_have_the_same_methods() -> None:
    fair, long = (load_recipe(name, BenchRecipe) for name in ("bench_fair", "bench_fair_long"))
    assert fair.methods == long.methods
    assert (fair.budget_cpu_seconds, long.budget_cpu_seconds) == (120, 600)


def test_every_shipped_method_can_be_configured() -> None:
    names = [name for name in shipped_recipes() if name.startswith("bench_")]
    assert len(names) > 5
    for name in names:
        shipped = load_recipe(name, BenchRecipe)
        cells = [cell for cell in cells_of(shipped) if cell.seed == shipped.seeds[0]]
        check_plan(shipped, cells)
        check_settings(shipped, cells)


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("train.trl.max_step=3", "methods.grpo, train: trl: .*'max_step'.*max_steps"),
        ("repair_sft.trl.learning_rate=fast", "methods.df_grpo, sft: trl.learning_rate: .*fast"),
    ],
)
def test_a_misspelt_setting_of_trl_is_found_before_a_cell_runs(tmp_path: Path, override: str, place: str) -> None:
    plan = load_recipe("bench_fair", BenchRecipe, [override])
    with pytest.raises(ConfigError, match=place):
        run_bench(plan, tmp_path / "bench")
    assert not (tmp_path / "bench").exists()
