"""Every command line on a page can be given: its command, options, recipe and keys exist, and fit together."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from difference_feedback.cli import app
from difference_feedback.runs import check as checks
from difference_feedback.runs.loading import build_recipe, load_recipe, shipped_recipes
from difference_feedback.runs.recipes import (
    BaseRecipe,
    BenchmarksRecipe,
    BenchRecipe,
    EvaluateRecipe,
    RepairRLRecipe,
    RepairSFTRecipe,
    TrainRecipe,
)

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
PROGRAM_ITSELF = typer.main.get_command(app)
PROGRAM = re.compile(r"(?:^\s*difference-feedback|-m difference_feedback\.cli)\s+(?P<words>.*)")
RECIPES: dict[str, tuple[Any, str]] = {
    "base": (BaseRecipe, "nano_base"),
    "bench": (BenchRecipe, "bench_fair"),
    "demo": (BenchRecipe, "demo"),
    "evaluate": (EvaluateRecipe, "nano_evaluate"),
    "repair rl": (RepairRLRecipe, "nano_repair_rl"),
    "repair sft": (RepairSFTRecipe, "nano_repair_sft"),
    "train": (TrainRecipe, "nano_df_grpo"),
}
"""Command -> what it runs, and the recipe that stands for one of the reader's own."""
READERS_OWN = {
    "_check_model": None,
    "adapter_base": None,
    "check_data": None,
    "check_reachable": None,
    "check_repairs": None,
    "check_rewards": None,
    "check_server": None,
    "check_trackers": None,
    "is_installed": True,
}
"""What `check` asks the machine for: the reader's models, files, packages and servers, which are not here."""


def _lines(page: Path) -> list[str]:
    """The command lines in a page's blocks, without what the shell does with them."""
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    text = "\n".join(text for language, text in blocks if language == "bash").replace("\\\n", " ")
    return [match["words"] for match in map(PROGRAM.search, text.splitlines()) if match]


LINES = [
    pytest.param(line, id=f"{page.stem}-{i}")
    for page in PAGES
    for i, line in enumerate(dict.fromkeys(_lines(page)))
    if "..." not in shlex.split(line, comments=True)
]


@pytest.mark.parametrize("line", LINES)
def test_the_command_can_be_given(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, answer in READERS_OWN.items():
        monkeypatch.setattr(checks, name, lambda *_, answer=answer: answer)
    words = shlex.split(re.split(r"\s(?:[|>&]|2>)", line)[0], comments=True)
    command: Any = PROGRAM_ITSELF
    names: list[str] = []
    while hasattr(command, "commands"):
        if words and words[0] in ("--help", "--version"):
            return
        names.append(words.pop(0))
        assert names[-1] in command.commands, f"no command {' '.join(names)}"
        command = command.commands[names[-1]]
    values, rest, _ = command.make_parser(command.context_class(command)).parse_args(args=words)
    assert not rest, f"arguments too many: {rest}"
    if " ".join(names) in RECIPES:
        _check_recipe(" ".join(names), list(values["arguments"] or ()))
    elif " ".join(names) in ("data check", "repair collect"):
        keys = [word for value in values.values() if isinstance(value, tuple) for word in value if "=" in word]
        build_recipe(EvaluateRecipe, {"kind": "evaluate", "data": {"path": "x"}}, keys)


def _check_recipe(command: str, words: list[str]) -> None:
    kind, stand_in = RECIPES[command]
    keys = [word for word in words if "=" in word]
    sources = [word for word in words if "=" not in word]
    if command == "evaluate" and len(sources) > 1:
        build_recipe(BenchmarksRecipe, {"kind": "benchmarks", "model": sources[0], "tasks": sources[1:]}, keys)
        return
    source = sources[0] if sources else stand_in
    if source not in shipped_recipes():
        assert source == "RECIPE" or source.endswith(".yaml"), f"{source} is no shipped recipe"
        if source == "six.yaml":  # a file of kind benchmarks
            return
        source = stand_in
    recipe = load_recipe(source, kind, keys)
    if kind is not BenchRecipe:
        checks.check(recipe)


def test_pages_have_command_lines() -> None:
    assert len(LINES) > 40
