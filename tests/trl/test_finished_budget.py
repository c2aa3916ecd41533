"""A finished budget is finished: resumed at its last checkpoint, a trainer makes no update, and logs no row anew."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from trl_world import weights_of

from difference_feedback.runs.checkpoints import SEAL, STATE, newest_whole, rows_of, why_not_whole
from difference_feedback.trl import MetricsToJsonl, StopAtBudget

CLOCKS = ("runtime", "per_second", "seconds", "step_time", "eq29")
BUDGETS = {
    "max_steps": {"max_steps": 2, "save_strategy": "steps", "save_steps": 2},
    "between saves": {"max_steps": 3, "save_strategy": "steps", "save_steps": 2, "save_total_limit": 1},
    "epochs": {"num_train_epochs": 1, "max_steps": -1, "save_strategy": "epoch"},
    "cpu": {"max_steps": 50, "save_strategy": "steps", "save_steps": 40, "logging_steps": 3},
}


def without_clocks(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: v for key, v in row.items() if not any(clock in key for clock in CLOCKS)} for row in rows]


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_run_that_is_done_is_not_trained_further(
    make_trainer: Callable[..., Any], questions: Any, tmp_path: Path, budget: str
) -> None:
    """Killed while its model was saved, as by the end of a cluster's job: it is resumed from its last checkpoint."""

    def trainer(rows: Path) -> Any:
        stop = StopAtBudget(5.2 if budget == "cpu" else None, already_spent=5.0)
        return make_trainer(
            folder=tmp_path / "run",
            train_dataset=questions.select(range(8)),
            callbacks=[stop, MetricsToJsonl(rows)],
            **BUDGETS[budget],
        )

    whole = trainer(tmp_path / "whole.jsonl")
    whole.train()
    last, problems = newest_whole(tmp_path / "run")
    assert last is not None
    assert problems == []
    assert last.name == f"checkpoint-{whole.state.global_step}"
    rows = [json.loads(line) for line in (tmp_path / "whole.jsonl").read_text().splitlines()]
    kept = rows_of(last)
    assert kept is not None
    (tmp_path / "resumed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:kept]))

    resumed = trainer(tmp_path / "resumed.jsonl")
    resumed.train(resume_from_checkpoint=str(last))
    assert resumed.state.global_step == whole.state.global_step
    expected, actual = weights_of(whole.model), weights_of(resumed.model)
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    again = [json.loads(line) for line in (tmp_path / "resumed.jsonl").read_text().splitlines()]
    assert without_clocks(again) == without_clocks(rows)
    assert [row["cpu_seconds"] for row in again] == [row["cpu_seconds"] for row in rows], "what was spent is kept"


def test_a_row_of_several_steps_survives_a_kill_in_its_midst(make_trainer: Callable[..., Any], tmp_path: Path) -> None:
    changes = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "logging_steps": 4, "folder": tmp_path}
    whole = make_trainer(**changes)
    whole.train()
    resumed = make_trainer(**changes)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    expected, actual = (without_clocks(trainer.state.log_history) for trainer in (whole, resumed))
    assert actual == expected


def test_a_checkpoint_is_sealed_before_older_ones_are_removed(
    make_trainer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At any moment there is a whole one, from the first on. A full disk leaves nothing of the one that is refused."""
    from difference_feedback.trl import resume

    whole: list[list[str]] = []

    def rotate(folder: str, limit: int | None, **options: Any) -> None:
        whole.append(sorted(path.name for path in Path(folder).glob("checkpoint-*") if why_not_whole(path) is None))
        kept(folder, limit, **options)

    kept = resume.rotate_checkpoints
    monkeypatch.setattr(resume, "rotate_checkpoints", rotate)
    changes = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1, "folder": tmp_path}
    make_trainer(max_steps=3, **changes).train()
    assert whole == [["checkpoint-1"], ["checkpoint-1", "checkpoint-2"], ["checkpoint-2", "checkpoint-3"]]
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    trainer = make_trainer(max_steps=4, **changes)
    monkeypatch.setattr(trainer, "_save_optimizer_and_scheduler", full)
    with pytest.raises(OSError, match="No space"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
    assert why_not_whole(tmp_path / "checkpoint-3") is None


def test_a_checkpoint_that_was_cut_off_anywhere_is_left_out(make_trainer: Callable[..., Any], tmp_path: Path) -> None:
    """Each of its files empty, half, or missing, with and without a seal. The one before is used."""
    trainer = make_trainer(max_steps=2, save_strategy="steps", save_steps=1, folder=tmp_path)
    trainer.train()
    last = tmp_path / "checkpoint-2"
    files = {path: path.read_bytes() for path in last.iterdir()}
    assert {SEAL, STATE, "model.safetensors", "optimizer.pt"} <= {path.name for path in files}
    for path, content in files.items():
        for half in (b"", content[: len(content) // 2], None):
            path.write_bytes(half) if half is not None else path.unlink()
            if path.name != SEAL or half is not None:  # a checkpoint without a seal may be whole
                newest, problems = newest_whole(tmp_path)
                assert newest == tmp_path / "checkpoint-1", (path.name, half and len(half))
                assert path.name in problems[0]
            path.write_bytes(content)
    assert newest_whole(tmp_path) == (last, [])

    (last / SEAL).unlink()
    assert newest_whole(tmp_path) == (last, []), "of the release before"
    for name in (STATE, "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "config.json"):
        content = files[last / name]
        (last / name).write_bytes(content[: len(content) // 2])
        newest, problems = newest_whole(tmp_path)
        assert newest == tmp_path / "checkpoint-1", name
        assert name in problems[0]
        (last / name).write_bytes(content)
