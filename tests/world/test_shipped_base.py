"""The shipped base is what its recipe makes, and RL can still improve it."""

import json

import pytest
from overwritten import left_after_overwriting

from difference_feedback import world
from difference_feedback.bench.base import build_base, measure
from difference_feedback.policy.evaluation import evaluate
from difference_feedback.runs.folder import Run
from difference_feedback.runs.loading import build_recipe, load_recipe
from difference_feedback.runs.recipes import BaseRecipe
from difference_feedback.world import nano
from difference_feedback.world.nano import SHIPPED

FIGURES = json.loads((SHIPPED / "summary.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def base():
    return nano.load_base()


def test_it_was_made_by_the_shipped_recipe():
    assert BaseRecipe.model_validate(FIGURES["recipe"]) == load_recipe("nano_base", BaseRecipe)


def test_it_is_small_and_safe():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 4_000_000
    assert {path.suffix for path in SHIPPED.iterdir()} == {".safetensors", ".json", ".jinja"}


def test_there_is_headroom():
    figures = FIGURES
    assert 0.40 <= figures["accuracy"] <= 0.65
    assert figures["upper_bound"] > 0.88


def test_its_accuracy_is_the_recorded_one(base):
    settings = load_recipe("nano_base", BaseRecipe).evaluation
    again = measure(*base, settings).summary()
    assert again["problems"] == FIGURES["problems"]
    # Sums are rounded differently on other processors, which turns a few close calls.
    assert again["accuracy"] == pytest.approx(FIGURES["accuracy"], abs=0.02)


def test_it_is_fluent(base):
    """Nearly all its answers have a known form: it lacks perception, not format."""
    problems = world.sample_problems("test", 120, seed=5)
    predicted = evaluate(*base, problems).predictions
    known = [world.error_spans(p, f.response) is not None for p, f in zip(problems, predicted, strict=True)]
    assert sum(known) / len(known) > 0.9


def test_arithmetic_is_right_where_the_readings_are(base):
    """On the images of its training, if its readings are right, nearly all other values are right too."""
    problems = world.sample_problems("warm", 120, seed=5)
    predicted = evaluate(*base, problems).predictions
    assert sum(f.correct for f in predicted) / len(predicted) > 0.8


def test_the_recipe_runs_end_to_end(tmp_path):
    small = ["steps=4", "caption_steps=2", "upper_bound_steps=2", "batch_size=4", "evaluation.problems=6"]
    recipe = build_recipe(BaseRecipe, {}, small)
    run = Run(tmp_path / "base", recipe)
    summary = build_base(recipe, run)
    assert summary == json.loads((run.folder / "summary.json").read_text())
    assert {"accuracy", "upper_bound", "tasks", "upper_bound_tasks"} <= set(summary)
    assert left_after_overwriting(run) == set()
    model, processor = nano.load_base(run.model_path)
    assert model.num_parameters() == summary["parameters"]
    assert evaluate(model, processor, world.sample_problems("test", 6, 0)).accuracy <= 1.0
