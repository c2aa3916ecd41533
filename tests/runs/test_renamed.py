"""Recipes and run folders of the release before: read by today's names, with one note for each old one."""

from pathlib import Path

import pytest
import yaml

from difference_feedback.errors import ConfigError
from difference_feedback.runs import renamed
from difference_feedback.runs.folder import Run
from difference_feedback.runs.loading import build_recipe, dump_recipe, load_recipe
from difference_feedback.runs.recipes import BenchRecipe, RepairRLRecipe, TrainRecipe

OLD = {
    "kind": "train",
    "repair_model": "annotator",
    "trl": {"num_repairs": 1, "gate": "repaired_only", "length_norm": "gated", "max_steps": 3},
}
NEW = {
    "kind": "train",
    "repair_model": "oracle",
    "trl": {"num_repairs": 1, "weights": "repair_only", "length_norm": "weights", "max_steps": 3},
}


@pytest.fixture(autouse=True)
def _nothing_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renamed, "_noted", set())


def test_an_old_recipe_is_the_new_one_and_every_old_name_is_noted_once(tmp_path: Path, capsys) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump(OLD, sort_keys=False))
    recipe = load_recipe(path, TrainRecipe)
    assert dump_recipe(recipe) == dump_recipe(build_recipe(TrainRecipe, NEW))
    load_recipe(path, TrainRecipe)
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 4
    assert all("old.yaml" in note for note in notes)
    for old, new in {"trl.gate": "trl.weights", "repair_model: annotator": "repair_model: oracle"}.items():
        assert sum(f"`{old}`" in note and f"`{new}`" in note for note in notes) == 1


@pytest.mark.parametrize(
    ("override", "new"),
    [
        ("trl.gate=random", "trl.weights=random"),
        ("trl.gate=repaired_only", "trl.weights=repair_only"),
        ("trl={gate: ones}", "trl={weights: ones}"),
        ("repair_model=transplant", "repair_model=blind_rewriter"),
        ("verl.difference_feedback.gate=ones", "verl.difference_feedback.weights=ones"),
    ],
)
def test_overrides_may_use_old_names(override: str, new: str, capsys) -> None:
    assert build_recipe(TrainRecipe, {}, [override]) == build_recipe(TrainRecipe, {}, [new])
    assert override in capsys.readouterr().err


def test_an_override_replaces_an_old_key_of_the_file() -> None:
    assert build_recipe(TrainRecipe, OLD, ["trl.weights=ones"]).trl["weights"] == "ones"
    assert build_recipe(TrainRecipe, NEW, ["trl.gate=ones"]).trl["weights"] == "ones"


def test_parts_of_plans_may_use_old_names() -> None:
    methods = {
        "a": {
            "label": "a",
            "group": "gate",
            "hand_repaired_first": True,
            "set": {"repair_model": "transplant", "trl": {"gate": "wrong_only"}},
        }
    }
    plan = build_recipe(
        BenchRecipe,
        {
            "budget_cpu_seconds": 1.0,
            "train": {"trl": {"gate": "ones"}},
            "repair_rl": {"visual_gate": {"enabled": False}},
            "methods": methods,
            "sweep": {"trl.gate": ["mask", "repaired_only"], "seed": [1]},
        },
    )
    assert (plan.train, plan.repair_rl) == ({"trl": {"weights": "ones"}}, {"visual_factor": {"enabled": False}})
    method = plan.methods["a"]
    assert (method.group, method.oracle_repairs_first) == ("weights", True)
    assert method.set == {"repair_model": "blind_rewriter", "trl": {"weights": "wrong_only"}}
    assert plan.sweep == {"trl.weights": ["mask", "repair_only"], "seed": [1]}


def test_an_old_and_a_new_name_together_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"recipe: methods\.a\.set\.trl\.gate .*methods\.a\.set\.trl\.weights.*drop"):
        build_recipe(BenchRecipe, {"methods": {"a": {"set": {"trl": {"gate": "ones", "weights": "mask"}}}}})


def test_values_of_a_wrong_type_are_left_to_the_recipe_s_own_check() -> None:
    for values in ({"trl": 3}, {"trl": None}, {"repair_model": ["annotator"]}):
        with pytest.raises(ConfigError, match="wanted"):
            build_recipe(TrainRecipe, values)
    with pytest.raises(ConfigError, match="sweep"):
        build_recipe(BenchRecipe, {"sweep": {"trl.gate": "ones"}, "methods": {"a": 3}})


def test_a_run_of_the_release_before_is_recognised(tmp_path: Path, capsys) -> None:
    train, repair_rl = build_recipe(TrainRecipe, NEW), RepairRLRecipe()
    old_train = yaml.safe_load(dump_recipe(train)) | {name: OLD[name] for name in ("repair_model", "trl")}
    old_repair_rl = yaml.safe_load(dump_recipe(repair_rl))
    old_repair_rl["visual_gate"] = old_repair_rl.pop("visual_factor")
    for recipe, old in ((train, old_train), (repair_rl, old_repair_rl)):
        folder = tmp_path / recipe.kind
        Run(folder, recipe).log(step=1)
        (folder / "config.yaml").write_text(yaml.safe_dump(old))
        assert Run(folder, recipe).resumed
    assert capsys.readouterr().err == "", "its own config.yaml is not the user's to change"


def test_every_kind_in_the_tables_is_a_recipe_or_a_part() -> None:
    parts = {kind for inner in renamed.PARTS.values() for kind in inner.values()}
    assert {*renamed.KEYS, *renamed.VALUES, *renamed.PARTS} <= {"train", "repair-rl", "bench", *parts}
    for kind, keys in renamed.KEYS.items():
        for old, new in keys.items():
            assert old.rpartition(".")[0] == new.rpartition(".")[0], f"{kind}: a key keeps its place"
