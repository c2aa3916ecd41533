"""A real repair model in the loop: another model than the policy, the policy itself, and over an interruption."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trl_world
from trl_world import VISION_IDS, weights_of

from difference_feedback.repair.local import LocalRepairer
from difference_feedback.trl import DFGRPOTrainer
from difference_feedback.world import nano


def _repairer(base: Path, seed: int = 5) -> LocalRepairer:
    _, processor = trl_world.load(base)
    return LocalRepairer(nano.build(seed)[0], processor, max_new_tokens=10, style="nano", temperature=1.0)


def test_a_model_repairs_and_the_policy_learns_from_it(make_trainer: Callable[..., Any], base: Path) -> None:
    trainer = make_trainer(repairer=_repairer(base), num_repairs=2, per_device_train_batch_size=16, max_steps=2)
    before = weights_of(trainer.model)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "df/pairs" in row]
    assert all(row["df/requested"] > 0 for row in rows)
    assert sum(row["df/pairs"] for row in rows) > 3
    assert 0.4 < sum(row["df/feasible_share"] for row in rows) / len(rows) <= 1.0
    assert all(row["df/eq29/num_repairs"] == 2 for row in rows)
    assert all(row["df/repair_tokens_per_pass"] >= 1 for row in rows), "plain decoding writes one"
    assert any(not torch.equal(before[name], value) for name, value in weights_of(trainer.model).items())
    for pair in trainer.last_pairs:
        assert set(VISION_IDS).isdisjoint(pair["repair"]["token_ids"])
        assert sum(pair["repair"]["token_ids"]) % 2 == 0


def test_the_policy_may_repair_its_own_answers(make_trainer: Callable[..., Any]) -> None:
    trainer = make_trainer(per_device_train_batch_size=16, max_steps=2)
    policy = trainer.model
    trainer.repairer = LocalRepairer(policy, trainer.processing_class, max_new_tokens=10, style="nano")
    before = weights_of(policy)
    trainer.train()
    assert policy.training
    assert trainer.last_pairs
    assert any(not torch.equal(before[name], value) for name, value in weights_of(policy).items())


@pytest.mark.parametrize("kind", [DFGRPOTrainer, trl_world.ScriptedTrainer])
def test_repairs_are_sampled_alike_after_resuming(
    make_trainer: Callable[..., Any], base: Path, tmp_path: Path, kind: type
) -> None:
    changes: dict[str, Any] = {"max_steps": 3, "save_strategy": "steps", "save_steps": 2}
    whole = make_trainer(kind, repairer=_repairer(base), folder=tmp_path / "whole", **changes)
    whole.train()
    resumed = make_trainer(kind, repairer=_repairer(base), folder=tmp_path / "resumed", **changes)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert [pair["repair"] for pair in whole.last_pairs] == [pair["repair"] for pair in resumed.last_pairs]
    actual = weights_of(resumed.model)
    assert all(torch.equal(value, actual[name]) for name, value in weights_of(whole.model).items())
