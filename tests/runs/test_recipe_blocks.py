"""The blocks of YAML on the documentation's pages are parts of recipes that load."""

import re
from pathlib import Path

import pytest

from difference_feedback.runs.check import check
from difference_feedback.runs.loading import build_recipe
from difference_feedback.runs.recipes import EvaluateRecipe, RepairRLRecipe, TrainRecipe
from difference_feedback.runs.servers import endpoints_of
from difference_feedback.runs.serving import server_command
from difference_feedback.runs.yaml_text import parse_yaml

DOCS = Path(__file__).parents[2] / "docs"
KINDS = {"audit": RepairRLRecipe, "judge": EvaluateRecipe, "evaluation": EvaluateRecipe, "repairs": TrainRecipe}
BLOCKS = [
    pytest.param(text, id=f"{page.stem}-{i}")
    for page in (DOCS / "repairers.md", DOCS / "judges.md")
    for i, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
]


def recipe_of(text):
    block = parse_yaml(text, "docs")
    kind = next(kind for key, kind in KINDS.items() if key in block)
    return build_recipe(kind, {"kind": kind.model_fields["kind"].default} | block)


@pytest.mark.parametrize("text", BLOCKS)
def test_the_block_loads(text):
    assert len(BLOCKS) > 5
    recipe = recipe_of(text)
    assert endpoints_of(recipe)


def test_the_paper_s_auditor_is_a_block_that_can_be_started(monkeypatch):
    [text] = [block.values[0] for block in BLOCKS if "72B-Instruct-AWQ" in block.values[0]]
    recipe = recipe_of(text).model_copy(update={"model": "nano"})
    monkeypatch.setattr("difference_feedback.runs.servers.find_program", lambda word: f"/opt/{word}")
    check(recipe)
    auditor = endpoints_of(recipe)["audit.endpoint"]
    words = server_command(auditor)
    assert words[1:3] == ["serve", "Qwen/Qwen2.5-VL-72B-Instruct-AWQ"]
    assert {"--data-parallel-size=2", "--host=127.0.0.1", "--port=8002"} <= set(words)
    # A group of 128 weights shares its scale, and no cut of 29,568 inputs in 2, 4 or 8 keeps the groups whole.
    assert not any(word.startswith("--tensor-parallel-size") for word in words)
    assert all(29_568 // parts % 128 for parts in (2, 4, 8))
