"""The page of keys lists every key of every recipe in words, and the examples of docs/recipes.md are recipes."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from difference_feedback.runs.prompts import prompt_form
from difference_feedback.runs.recipes import (
    BenchmarksRecipe,
    EvaluateRecipe,
    RepairRLRecipe,
    RepairSFTRecipe,
    TrainRecipe,
)
from difference_feedback.runs.repair_check import RepairCheckRecipe

DOCS = Path(__file__).parents[2] / "docs"
KEYS = (DOCS / "reference" / "recipe_keys.md").read_text(encoding="utf-8")
GUIDE = (DOCS / "recipes.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "kind", [TrainRecipe, EvaluateRecipe, BenchmarksRecipe, RepairSFTRecipe, RepairRLRecipe, RepairCheckRecipe]
)
def test_every_key_is_listed(kind: Any) -> None:
    for name in set(kind.model_fields) - {"kind"}:
        assert f"- `{name}` (" in KEYS


def test_types_are_in_words() -> None:
    listed = KEYS.partition("<!-- recipe keys")[2]
    assert not re.search(r"^- `\w+` \([^)]*(Annotated|Literal|Field|dict\[|lambda)", listed, re.MULTILINE)


def test_the_examples_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        recipe = TrainRecipe.model_validate(yaml.safe_load(block))
        if recipe.format_prompt:
            assert prompt_form(None, recipe.format_prompt).question("2 {x}").endswith("answer in \\boxed{}.")
