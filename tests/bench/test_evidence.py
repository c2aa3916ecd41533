"""From rows to what can be said: pairs by seed, figures by hand, learning curves, and the tables that are printed."""

from typing import Any

import pytest

from difference_feedback.bench.curves import gains, matches_final_at, overtakes_at
from difference_feedback.bench.evidence import evidence, finished_methods
from difference_feedback.bench.tables import accuracy_table, difference_table, repair_table, unfinished_list
from difference_feedback.runs.loading import build_recipe
from difference_feedback.runs.recipes import BenchRecipe

MASKS = {"precision": 0.5, "recall": 0.4, "f1": 0.44, "first_error": 0.3, "density": 0.2, "drafts": 9}
REPAIRS = {"accuracy_at_1": 0.5, "accuracy_at_2": 0.6, "edit_cost": None, "blind_share": 0.1, "audit_survival": 0.9}
REPAIRS["drafts"] = 60
COST = {
    **{"base": 1.0, "wrong": 30.0, "repaired": 20.0, "num_repairs": 2.0, "repair": 0.005},
    **{"predicted": 1.3, "measured": 1.25},
}


def row(method: str, seed: int, left: float, right: float, **more: Any) -> dict[str, Any]:
    accuracy = (left + right) / 2
    return {
        **{
            "method": method,
            "label": method.upper(),
            "group": "main",
            "tasks": "mixture",
            "seed": seed,
            "settings": {},
        },
        **{"hash": f"{method}{seed}", "budget_cpu_seconds": 100.0, "accuracy": accuracy, "problems": 1000},
        **{"by_task": {"left": left, "right": right}, "cpu_seconds": 101.0, "setup_cpu_seconds": 0.0, "steps": 10},
        **{"work": {"forward": 1e12, "backward": 2e12, "generated_tokens": 5000}, "entropy": [0.2, 0.1]},
        **{"curve": [[0.0, 0.5, 100], [50.0, 0.55, 100], [101.0, accuracy, 1000]], "kl_from_start": 0.05},
        **{"masks": None, "cost": None},
        **more,
    }


BASE = row("base", 0, 0.4, 0.6, budget_cpu_seconds=None, cpu_seconds=0.0, curve=[], kl_from_start=None, entropy=None)
ROWS = [
    BASE,
    row("grpo", 0, 0.50, 0.70),
    row("grpo", 1, 0.54, 0.70),
    row("grpo", 2, 0.10, 0.20),
    row("df", 1, 0.60, 0.72, masks={"all": MASKS, "thirds": [MASKS, None, MASKS]}, cost=COST, repairs=REPAIRS),
    row("df", 0, 0.52, 0.74, masks={"all": MASKS, "thirds": [MASKS, MASKS, MASKS]}, cost=COST, repairs=REPAIRS),
]
FOUND = evidence(ROWS, {"grpo": ["base"], "df": ["base", "grpo", "absent"]})


def test_differences_are_paired_by_seed() -> None:
    comparison = next(c for c in FOUND["comparisons"] if (c["method"], c["against"]) == ("df", "grpo"))
    assert comparison["seeds"] == [0, 1]
    assert comparison["per_seed"] == pytest.approx([0.03, 0.04])
    assert comparison["difference"] == pytest.approx(0.035)
    half = 12.706 * 0.005  # Student's t at 97.5 % with one degree of freedom, times the standard error
    assert comparison["low"] == pytest.approx(0.035 - half, abs=1e-4)
    assert comparison["high"] == pytest.approx(0.035 + half, abs=1e-4)
    assert [(c["method"], c["against"]) for c in FOUND["comparisons"]] == [
        ("grpo", "base"),
        ("df", "base"),
        ("df", "grpo"),
    ]


def test_swept_settings_are_compared_at_the_same_settings_or_as_the_plan_has_them() -> None:
    swept = {"settings": {"trl.learning_rate": 1e-4}}
    rows = [*ROWS, row("df", 0, 0.3, 0.3, **swept), row("weights", 0, 0.4, 0.4, **swept), row("weights", 1, 0.5, 0.5)]
    result = evidence(rows, {"weights": ["df", "grpo"]})
    assert [(c["method"], c["against"], c["seeds"]) for c in result["comparisons"]] == [
        ("weights (lr 0.0001)", "df (lr 0.0001)", [0]),
        ("weights (lr 0.0001)", "grpo", [0]),
        ("weights", "df", [1]),
        ("weights", "grpo", [1]),
    ]
    assert result["comparisons"][0]["labels"] == ["WEIGHTS (lr 0.0001)", "DF (lr 0.0001)"]


def test_the_start_is_the_same_for_every_seed() -> None:
    comparison = FOUND["comparisons"][0]
    assert comparison["per_seed"] == pytest.approx([0.1, 0.12, -0.35])
    assert comparison["overtakes_at"] is None


def test_figures_of_a_method() -> None:
    grpo, df = FOUND["methods"]["grpo"], FOUND["methods"]["df"]
    assert FOUND["base"] == 0.5
    assert grpo["mean"] == pytest.approx((0.6 + 0.62 + 0.15) / 3)
    assert (grpo["collapsed"], df["collapsed"]) == (1, 0)
    assert df["seeds"] == [0, 1]
    assert df["per_seed"] == pytest.approx([0.63, 0.66])
    assert df["teraflops"] == pytest.approx(3.0)
    assert df["masks"]["all"]["f1"] == pytest.approx(0.44)
    assert df["cost"] == pytest.approx(COST)
    assert (grpo["repairs"], df["repairs"]["accuracy_at_2"]) == (None, pytest.approx(0.6))


def test_gains_are_measured_against_the_start_on_the_same_problems() -> None:
    comparison = row("x", 0, 0.7, 0.7, curve=[[20.0, 0.6, 100], [60.0, 0.65, 100], [100.0, 0.7, 1000]])
    grid, result = gains([comparison], base=0.5, points=6)
    assert grid.tolist() == [0, 20, 40, 60, 80, 100]
    assert result[0].tolist() == pytest.approx([0, 0, 2.5, 5, 12.5, 20])


def test_overtaking_is_the_last_time_that_it_was_behind() -> None:
    late = row("late", 0, 0.7, 0.7, curve=[[50.0, 0.5, 100], [100.0, 0.9, 1000]])
    early = row("early", 0, 0.7, 0.7, curve=[[0.0, 0.5, 100], [50.0, 0.6, 100], [100.0, 0.6, 1000]])
    seconds = overtakes_at([late], [early], base=0.5)
    assert seconds is not None
    assert 62.5 <= seconds <= 65.0
    assert overtakes_at([early], [late], base=0.5) is None


def test_matching_the_final_is_when_it_comes_to_stay_at_the_others_end() -> None:
    first = row("first", 0, 0.7, 0.7, curve=[[0.0, 0.5, 100], [50.0, 0.6, 100], [75.0, 0.5, 100], [100.0, 0.7, 100]])
    second = row("second", 0, 0.6, 0.6, curve=[[0.0, 0.5, 100], [50.0, 0.7, 100], [100.0, 0.6, 1000]])
    assert matches_final_at([first], [second], base=0.5) == pytest.approx(87.5)
    assert matches_final_at([second], [first], base=0.5) is None
    flat = row("flat", 0, 0.5, 0.5, curve=[[0.0, 0.5, 100], [100.0, 0.5, 100]])
    assert matches_final_at([second], [flat], base=0.5) == 0.0


def test_printed_tables_have_a_row_for_every_method_and_comparison() -> None:
    assert [line.split("|")[1].strip() for line in accuracy_table(FOUND).splitlines()[2:]] == ["BASE", "GRPO", "DF"]
    assert "+3.5" in difference_table(FOUND)
    assert len(difference_table(FOUND, [("df", "grpo")]).splitlines()) == 3
    assert [line.split("|")[1].strip() for line in repair_table(FOUND).splitlines()[2:]] == ["DF"]
    for table in (accuracy_table, difference_table, repair_table):
        assert len({line.count("|") for line in table(FOUND).splitlines()}) == 1


def test_only_methods_with_all_seeds_and_tasks_are_results() -> None:
    labels = {"base": "BASE", "grpo": "GRPO", "df": "DF", "absent": "never begun"}
    methods = {name: {"label": label, "kind": "base" if name == "base" else "train"} for name, label in labels.items()}
    values = {"kind": "bench", "seeds": [0, 1, 2], "budget_cpu_seconds": 100.0, "methods": methods}
    finished, unfinished = finished_methods(ROWS, build_recipe(BenchRecipe, values))
    assert {run["method"] for run in finished} == {"base", "grpo"}
    assert unfinished == {"never begun": 0, "DF": 2}
    assert unfinished_list(unfinished, 3).splitlines()[1] == "- DF: unfinished, 2 of 3 seeds"
    rates = {"trl.learning_rate": [1e-4, 2e-4]}
    begun = row("grpo", 0, 0.5, 0.7, settings={"trl.learning_rate": 1e-4})
    _, unfinished = finished_methods([begun], build_recipe(BenchRecipe, values | {"sweep": rates, "seeds": [0, 1]}))
    assert {name for name in unfinished if "GRPO" in name} == {"GRPO (lr 0.0001)", "GRPO (lr 0.0002)"}
    assert unfinished["GRPO (lr 0.0001)"] == 1
    tasks = {"mixture": None, "charts": ["chart"]}
    finished, unfinished = finished_methods(ROWS, build_recipe(BenchRecipe, values | {"tasks": tasks}))
    assert not finished
    assert unfinished == {"never begun": 0, "BASE": 0, "GRPO": 0, "DF": 0}
