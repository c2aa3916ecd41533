"""DDP, FSDP2, ZeRO-2 and ZeRO-3 on two ranks: the results of one rank, and those of a run that was never interrupted.

Tolerance against one rank: 1e-4 of the largest movement of a weight. Sums over two ranks round differently, in float32;
plain SGD keeps that as small as it is (measured: 2e-5 of the movement after four steps, 1e-6 in absolute terms).
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from launch import BACKENDS, one_rank, two_ranks
from safetensors.torch import load_file

from difference_feedback.runs.jsonl import read_rows
from difference_feedback.world.nano import SHIPPED

pytestmark = pytest.mark.distributed
STAGES = ("sft", "rl", "policy")
TOLERANCE = 1e-4
CLOCKS = ("seconds", "/wall/", "/cpu/", "runtime", "per_second", "step_time", "filler_rows", "cost")
RESTARTED = ("num_tokens", "train_loss")
"""TRL's own totals, which it starts anew when a run is resumed."""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The saved weights. A copy of tied ones, which some backends save beside them, is left out."""
    values = load_file(folder / "model" / "model.safetensors")
    return {name: value for name, value in values.items() if name != "lm_head.weight"}


def figures(value: Any, place: str = "") -> dict[str, Any]:
    """The leaves of a summary or of rows of metrics, by their places, without what they took."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {} if any(clock in place for clock in CLOCKS) else {place: value}
    return {key: leaf for name in value for key, leaf in figures(value[name], f"{place}/{name}").items()}


def summary(folder: Path) -> Any:
    return figures(json.loads((folder / "summary.json").read_text()))


@pytest.fixture(scope="session")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    done = one_rank(folder, "equal", "repairs", "lora")
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="session", params=BACKENDS)
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two launches: the second one continues what the kill at the end of the first has left."""
    folder = tmp_path_factory.mktemp(request.param)
    lora = ["lora"] if request.param == "ddp" else []
    killed = two_ranks(request.param, folder, "equal", "repairs", *lora, "still", "whole", "cut")
    assert "Signal 9 (SIGKILL)" in killed.stderr, killed.stderr[-4000:]
    for stage in STAGES:
        checkpoints = (folder / "cut" / stage / "checkpoints").glob("checkpoint-*")
        assert [path.name for path in checkpoints] == ["checkpoint-2"]
        assert not (folder / "cut" / stage / "summary.json").exists()
    resumed = two_ranks(request.param, folder, "resume")
    assert resumed.returncode == 0, resumed.stderr[-4000:]
    return folder


def assert_same_training(one: Path, two: Path, start: dict[str, torch.Tensor]) -> None:
    alone, together = weights(one), weights(two)
    assert alone.keys() == together.keys() == start.keys()
    moved = max(float((value - start[name]).abs().max()) for name, value in alone.items())
    assert moved > 1e-3
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=TOLERANCE * moved, msg=name)


@pytest.mark.parametrize("stage", STAGES)
def test_training_is_that_of_one_rank(one: Path, two: Path, stage: str) -> None:
    assert_same_training(one / stage, two / stage, load_file(SHIPPED / "model.safetensors"))
    alone, together = summary(one / stage), summary(two / stage)
    assert alone.keys() == together.keys()
    for place, value in alone.items():
        assert together[place] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), place
    if stage == "policy":
        rows = [
            [row for row in read_rows(folder / stage / "metrics.jsonl") if "df/pairs" in row] for folder in (one, two)
        ]
        assert [row["df/pairs"] for row in rows[0]] == [row["df/pairs"] for row in rows[1]]
        assert sum(row["df/pairs"] for row in rows[0]) > 8


def test_evaluation_is_that_of_one_rank(one: Path, two: Path) -> None:
    """Of the model that the backend trained and saved, whose accuracy in the training is known."""
    alone, together = (read_rows(folder / "evaluate" / "predictions.jsonl") for folder in (one, two))
    assert alone == together
    assert summary(two / "evaluate")["/accuracy"] == summary(two / "policy")["/accuracy"]


def test_a_repair_model_is_whole_on_every_rank(one: Path, two: Path) -> None:
    """Ranks that ask for another number of repairs do not wait for each other, or the launch would not have ended."""
    (alone,) = json.loads((one / "repairs.json").read_text())
    assert json.loads((two / "repairs.json").read_text()) == [alone, alone]


def test_nothing_moves_without_a_pair(two: Path) -> None:
    """AdamW with warm moments and weight decay. Pairs on one rank alone move all weights."""
    steps = json.loads((two / "still.json").read_text())
    assert [pairs > 0 for pairs in steps["pairs"]] == [True, True, True, False, False]
    assert [moved > 1e-4 for moved in steps["moved"]] == [True, True, True, False, False]
    assert steps["moved"][3:] == [0.0, 0.0]


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(two: Path, stage: str) -> None:
    """With AdamW, a schedule and sampling: bit for bit."""
    whole, resumed = (weights(two / name / stage) for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    rows = [figures(read_rows(two / name / stage / "metrics.jsonl")) for name in ("whole", "cut")]
    kept = [{place: leaf for place, leaf in leaves.items() if not place.endswith(RESTARTED)} for leaves in rows]
    assert kept[0] == kept[1]


def test_adapters_on_one_base_train_as_on_one_rank(one: Path, two: Path) -> None:
    """The policy's adapter is trained, and the repair model is another one on the same weights. DDP only."""
    if not (two / "lora").exists():
        pytest.skip("a repair model on sharded weights is refused")
    alone, together = (
        load_file(folder / "lora" / "policy" / "model" / "adapter_model.safetensors") for folder in (one, two)
    )
    assert max(float(value.abs().max()) for value in alone.values()) > 1e-3
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=1e-5, msg=name)
