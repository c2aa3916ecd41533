"""Recipes: shipped ones load, overrides apply, and every mistake names the place, the key and what would work."""

from pathlib import Path

import pytest

from difference_feedback.bench.cells import cells_of
from difference_feedback.errors import ConfigError
from difference_feedback.runs.loading import build_recipe, dump_recipe, load_recipe, shipped_recipes
from difference_feedback.runs.recipes import (
    BaseRecipe,
    BenchRecipe,
    EvaluateRecipe,
    RepairRLRecipe,
    RepairSFTRecipe,
    TrainRecipe,
)
from difference_feedback.runs.repair_check import RepairCheckRecipe
from difference_feedback.runs.validation import build_config
from difference_feedback.runs.yaml_text import parse_yaml

CLASSES = (BaseRecipe, RepairSFTRecipe, RepairRLRecipe, TrainRecipe, EvaluateRecipe, BenchRecipe, RepairCheckRecipe)
RECIPES = {recipe.model_fields["kind"].default: recipe for recipe in CLASSES}


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_there_are_recipes_for_every_kind() -> None:
    kinds = {parse_yaml(path.read_text(), path.name)["kind"] for path in shipped_recipes().values()}
    assert kinds == set(RECIPES)


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipe_loads_and_survives_a_round_trip(name: str) -> None:
    kind = RECIPES[parse_yaml(shipped_recipes()[name].read_text(), name)["kind"]]
    recipe = load_recipe(name, kind)
    assert build_recipe(kind, parse_yaml(dump_recipe(recipe), "dump")) == recipe


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_settings_for_trl_are_trl_s_own(name: str, tmp_path: Path) -> None:
    kind = RECIPES[parse_yaml(shipped_recipes()[name].read_text(), name)["kind"]]
    recipe = load_recipe(name, kind)
    parts = [part for cell in cells_of(recipe) for part in cell.parts.values()] if kind is BenchRecipe else [recipe]
    for part in parts:
        if not isinstance(part, RepairSFTRecipe | RepairRLRecipe | TrainRecipe):
            continue
        from trl import SFTConfig

        from difference_feedback.trl.config import DFGRPOConfig, LeanGRPOConfig
        from difference_feedback.trl.peers import GRPO_TRAINERS

        config_class = SFTConfig if isinstance(part, RepairSFTRecipe) else LeanGRPOConfig
        if isinstance(part, TrainRecipe):
            config_class = DFGRPOConfig if part.method == "df-grpo" else GRPO_TRAINERS[part.method][0]
        values = {**part.trl, "bf16": False, "gradient_checkpointing": False}  # a machine without a GPU refuses bf16
        config = build_config(config_class, values, source=name, output_dir=str(tmp_path))
        for key, value in values.items():
            assert getattr(config, key) == value, key


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Answer question #1 first, then #2.", "Answer question #1 first, then #2."),
        ("Line one.\nLine two.\n\nLine three.\n", "Line one.\nLine two.\n\nLine three."),
        ("# Rules\nBe brief.", "# Rules\nBe brief."),
        ("#1", "#1"),
        ("'quoted # text'", "quoted # text"),
        ('"two\\nlines"', "two\nlines"),
        ("|\n  a # b\n  c", "a # b\nc"),
        ("null", None),
        ("", None),
    ],
)
def test_a_text_on_the_command_line_stays_as_it_is(text: str, value: str | None) -> None:
    assert load_recipe("nano_grpo", TrainRecipe, [f"system_prompt={text}"]).system_prompt == value


def test_overrides_reach_nested_keys_and_are_read_as_yaml(tmp_path: Path) -> None:
    path = write(tmp_path, "kind: train\nmethod: grpo\ntrl: {max_steps: 5}\n")
    recipe = load_recipe(
        path,
        TrainRecipe,
        [
            "seed=3",
            "trl.learning_rate=1e-4",
            "evaluation.problems=7",
            "tasks=[count, chart]",
            "budget_cpu_seconds=2",
            "trl.save_strategy=no",
        ],
    )
    assert recipe.seed == 3
    assert recipe.trl == {"max_steps": 5, "learning_rate": 1e-4, "save_strategy": "no"}
    assert recipe.evaluation.problems == 7
    assert recipe.tasks == ["count", "chart"]
    assert recipe.budget_cpu_seconds == 2.0


@pytest.mark.parametrize(
    ("text", "overrides", "parts"),
    [
        ("kind: train\nmodle: x\n", [], ["recipe.yaml", "'modle'", "'model'"]),
        ("kind: train\nevaluation: {problem: 3}\n", [], ["recipe.yaml", "'evaluation.problem'", "'problems'"]),
        ("kind: train\ndata: {path: x, limits: 3}\n", [], ["'data.limits'", "'limit'"]),
        ("kind: train\n", ["sede=1"], ["override 'sede=1'", "'seed'"]),
        ("kind: train\nseed: three\n", [], ["seed", "'three' (text)", "integer"]),
        ("kind: train\nseed: true\n", [], ["seed", "true/false", "integer"]),
        ("kind: train\n", ["evaluation.problems=many"], ["override", "evaluation.problems", "integer"]),
        ("kind: train\n", ["evaluation.problems=0"], ["evaluation.problems", "greater than 0"]),
        ("kind: train\nmethod: ppo\n", [], ["method", "'ppo'", "'grpo', 'df-grpo'"]),
        ("kind: train\nevaluation: 3\n", [], ["evaluation", "3 (int)"]),
        ("kind: train\ndata: {}\n", [], ["'data.path'", "missing"]),
        ("kind: train\nseed: 1\nseed: 2\n", [], ["'seed'", "twice"]),
        ("kind: train\nseed: [1\n", [], ["recipe.yaml", "line", "not YAML"]),
        ("- a\n- b\n", [], ["mapping"]),
        ("kind: demo\n", [], ["'demo'", "kind: train", "nano_grpo"]),
        ("kind: train\n", ["seed"], ["key=value"]),
        ("kind: train\n", ["evaluations.problems=3"], ["override 'evaluations.problems=3'", "'evaluation'"]),
        ("kind: train\n", ["seed.x=3"], ["override 'seed.x=3': seed", "write seed=VALUE"]),
        ("kind: train\n", ["judge.votes=3"], ["override 'judge.votes=3'", "'judge.endpoint'", "missing"]),
        ("kind: train\nrank: 8\n", [], ["recipe.yaml", "'rank'", "mean 'lora.rank'"]),
        ("kind: train\n", ["evaluation.style=nano"], ["'evaluation.style'", "mean 'repairs.style'"]),
    ],
)
def test_a_mistake_names_the_place_the_key_and_what_would_work(
    tmp_path: Path, text: str, overrides: list[str], parts: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(write(tmp_path, text), TrainRecipe, overrides)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "kind", "override", "says"),
    [
        ("nano_repair_sft", RepairSFTRecipe, "data.path=x.jsonl", "write data=VALUE"),
        ("nano_repair_check", RepairCheckRecipe, "max_new_tokens=9", "mean 'sampling.max_new_tokens'?"),
        ("nano_repair_check", RepairCheckRecipe, "model=x", "mean 'repair_model'?"),
    ],
)
def test_a_key_of_another_recipe_leads_to_the_one_that_is_meant(
    recipe: str, kind: type, override: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(recipe, kind, [override])
    assert str(caught.value).startswith(f"override {override!r}: ")
    assert says in str(caught.value)


def test_a_missing_recipe_names_the_nearest_shipped_one() -> None:
    with pytest.raises(ConfigError, match="nano_evaluate"):
        load_recipe("nano_evaluat", EvaluateRecipe)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(write(tmp_path, "kind: train\nmodle: x\nseed: three\n"), TrainRecipe)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"learning_rat": 1e-4}, ["learning_rat", "'learning_rate'"]),
        ({"max_steps": "ten"}, ["trl.max_steps", "'ten' (text)", "integer"]),
        ({"output_dir": "x"}, ["output_dir", "set by the run"]),
        ({"per_device_train_batch_size": 3, "num_generations": 8}, ["GRPOConfig refuses"]),
    ],
)
def test_trainer_settings_are_checked_by_name_and_type(values: dict, parts: list[str], tmp_path: Path) -> None:
    from trl import GRPOConfig

    with pytest.raises(ConfigError) as caught:
        build_config(GRPOConfig, values, output_dir=str(tmp_path))
    for part in parts:
        assert part in str(caught.value)


def test_a_run_s_folder_stands_for_its_model_and_other_names_for_themselves(tmp_path: Path) -> None:
    for folder in ("run/model", "adapter/model", "whole/model"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "adapter" / "adapter_config.json").touch()  # models that happen to hold a folder `model`
    (tmp_path / "whole" / "config.json").touch()
    models = {"run": "run/model", "run/model": "run/model", "adapter": "adapter", "whole": "whole"}
    for name, expected in models.items():
        overrides = [f"model={tmp_path / name}", f"repair_model={tmp_path / name}"]
        recipe = load_recipe("nano_df_grpo", TrainRecipe, overrides)
        assert {recipe.model, recipe.repair_model} == {str(tmp_path / expected)}
    assert load_recipe("nano_df_grpo", TrainRecipe, ["model=Qwen/Qwen2.5-VL-7B-Instruct"]).model.startswith("Qwen/")
