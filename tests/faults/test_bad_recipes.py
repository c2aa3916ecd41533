"""Bad values of recipes: every one is refused by every command in a sentence that names the key, before anything is
loaded and before the run's folder is made. Unusual values that work are accepted."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import SFTConfig
from typer.testing import CliRunner

from difference_feedback.cli import app
from difference_feedback.errors import DifferenceFeedbackError
from difference_feedback.runs.recipes import (
    BaseRecipe,
    BenchRecipe,
    EvaluateRecipe,
    RepairRLRecipe,
    RepairSFTRecipe,
    TrainRecipe,
)
from difference_feedback.runs.sections import Section
from difference_feedback.trl import DFGRPOConfig
from difference_feedback.trl.config import LeanGRPOConfig

pytestmark = pytest.mark.faults


class Opened(Exception):
    """The recipe was accepted: the run's folder would be made now."""


class Case(NamedTuple):
    """A command line with a mistake, and the key that the message must name."""

    words: list[str]
    key: str


def cases(name: str) -> Iterator[Any]:
    """The command lines of a list beside this file."""
    command: list[str] = []
    for line in (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("$ "):
            command = shlex.split(line[2:])
        elif line and not line.startswith("# "):
            override, _, key = line.partition(" -> ")
            words = override.replace("\\n", "\n").split(" ++ ")
            yield pytest.param(
                Case([*command, *words], key or words[0].partition("=")[0]), id=f"{' '.join(command[:2])}: {line}"
            )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the lists name."""
    folder = tmp_path_factory.mktemp("recipes")
    row = {"question": "How many?", "answer": "3"}
    (folder / "rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (folder / "many.jsonl").write_text((json.dumps(row) + "\n") * 100, encoding="utf-8")
    (folder / "repairs.jsonl").write_text(json.dumps({"question": "?", "draft": "2", "repaired": "3"}) + "\n")
    (folder / "prompts").mkdir()
    (folder / "prompt.txt").write_text("Look at the image.", encoding="utf-8")
    (folder / "utf16.txt").write_text("Look at the image.", encoding="utf-16")
    (folder / "latin.txt").write_bytes("Schau gut zu, Jürgen.".encode("latin-1"))
    (folder / "big.txt").write_text("x" * 2_000_000, encoding="utf-8")
    (folder / "rewards.py").write_text("def f(completions, **_):\n    return [1.0 for _ in completions]\n")
    return folder


@pytest.fixture
def outcome(place: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command in the folder until it would make the run's folder: the exception that ended it."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model is loaded")

    class Folder:
        def __init__(self, path: Path, *_: Any, **__: Any) -> None:
            raise Opened(path)

    monkeypatch.chdir(place)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("difference_feedback.runs.folder.Run", Folder)
    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", refuse)
    before = {path.name for path in place.iterdir()}

    def run(words: list[str]) -> BaseException | None:
        result = CliRunner().invoke(app, ["--debug", *words])
        assert {path.name for path in place.iterdir()} == before, "something was written"
        return result.exception

    return run


VALUES = ["", "0", "1", "-1", "2", "7", "8", "0.5", "1e-9", "1e9", "1e400", "-.inf", ".nan", "true", "no", "~", "''"]
VALUES += ["[]", "{}", "[1]", "[x, x]", "[.nan]", "{a: 1}", "{1: 1}", "[[[]]]", "2026-01-01", "010", "0x10", "1_000"]
VALUES += ["9223372036854775807", "99999999999999999999", "./prompts", "rows.jsonl", "/dev/zero", "~nobody/x", "a b"]
VALUES += [
    "http://127.0.0.1:9",
    "*",
    "(",
    "\\",
    "%s",
    "{question}",
    "nano",
    "auto",
    "grpo",
    "a" * 5000,
    "a:b",
    "a.py:f",
]
VALUES += ["x", "Ä", "none", "-", "null", "{question: 1}", "[0, 0]", "- a", "embedded", "all"]
COMMANDS: dict[str, tuple[type[Section], type | None]] = {
    "train nano_df_grpo repair_model=nano": (TrainRecipe, DFGRPOConfig),
    "train nano_grpo": (TrainRecipe, LeanGRPOConfig),
    "train nano_grpo host=verl": (TrainRecipe, DFGRPOConfig),
    "repair sft nano_repair_sft": (RepairSFTRecipe, SFTConfig),
    "repair rl nano_repair_rl model=nano": (RepairRLRecipe, LeanGRPOConfig),
    "base nano_base": (BaseRecipe, None),
    "evaluate nano_evaluate": (EvaluateRecipe, None),
    "demo bench_fair": (BenchRecipe, None),
}


def keys_of(section: type[Section], prefix: str = "") -> Iterator[str]:
    """The dotted keys of a recipe, and of the sections in it."""
    for name, field in section.model_fields.items():
        yield prefix + name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Section):
                yield from keys_of(kind, f"{prefix}{name}.")


@pytest.mark.parametrize("command", COMMANDS)
def test_any_value_of_any_key_is_accepted_or_refused_in_words(command: str, outcome: Any) -> None:
    section, config = COMMANDS[command]
    keys = list(keys_of(section)) + ([f"trl.{field.name}" for field in fields(config)] if config else [])

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(st.dictionaries(st.sampled_from(keys), st.sampled_from(VALUES), min_size=1, max_size=2))
    def law(values: dict[str, str]) -> None:
        error = outcome([*command.split(), *(f"{key}={value}" for key, value in values.items())])
        assert isinstance(error, DifferenceFeedbackError | Opened), f"{values}: {error!r}"
        assert (
            isinstance(error, Opened)
            or any(part in str(error) for key in values for part in key.split("."))
            or "verl" in command
        )

    law()


@pytest.mark.parametrize("case", cases("bad_overrides.txt"))
def test_a_bad_value_is_refused_before_anything_is_loaded(case: Case, outcome: Any) -> None:
    error = outcome(case.words)
    assert isinstance(error, DifferenceFeedbackError), repr(error)
    assert case.key in str(error)
    assert len(str(error)) < 3000


@pytest.mark.parametrize("case", cases("good_overrides.txt"))
def test_an_unusual_value_is_accepted(case: Case, outcome: Any) -> None:
    error = outcome(case.words)
    assert isinstance(error, Opened), error
