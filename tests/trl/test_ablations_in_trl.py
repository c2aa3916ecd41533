"""Mask ablations as they reach the batch that TRL's loss reads."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from trl_world import ScriptedTrainer, first_batch

from difference_feedback.errors import ConfigError


def weights_of(make_trainer: Callable[..., Any], weights: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    trainer = make_trainer(ScriptedTrainer, weights=weights)
    batch = first_batch(trainer)
    assert trainer.last_pairs
    return trainer.last_pairs, batch


@pytest.mark.parametrize("ablation", ["random", "repair_only"])
def test_an_ablation_replaces_the_weights_and_leaves_the_masks(make_trainer: Callable[..., Any], ablation: str) -> None:
    pairs, batch = weights_of(make_trainer, ablation)
    same, _ = weights_of(make_trainer, ablation)
    for pair, again in zip(pairs, same, strict=True):
        for side in ("wrong", "repair"):
            mask, weights = np.array(pair[side]["mask"]), np.array(pair[side]["weights"])
            assert pair[side]["weights"] == again[side]["weights"], "drawn the same for the same pair"
            if ablation == "random":
                assert weights.sum() == mask.sum()
            elif ablation.startswith(side):
                np.testing.assert_array_equal(weights, mask)
            else:
                assert not weights.any()
    total = sum(sum(pair[side]["weights"]) for pair in pairs for side in ("wrong", "repair"))
    assert float(batch["weights"].sum()) == pytest.approx(total)


def test_an_ablation_needs_repairs(make_trainer: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="repairer"):
        make_trainer(weights="random", regroup=False, repairer=None)
