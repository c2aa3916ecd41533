"""Objectives by name: the settings that TRL gets, and that a contradiction is rejected."""

from pathlib import Path
from typing import Any

import pytest
import trl_world

from difference_feedback.errors import ConfigError
from difference_feedback.trl.objective import TRL_OBJECTIVES, trl_settings, with_objective

TOKEN, SEQUENCE = "token", "sequence"
EXPECTED = {
    "grpo": ("grpo", TOKEN, "group", 0.2, 0.2),
    "gspo": ("grpo", SEQUENCE, "group", 3e-4, 4e-4),
    "dapo": ("dapo", TOKEN, "group", 0.2, 0.28),
    "dr_grpo": ("dr_grpo", TOKEN, "none", 0.2, 0.2),
    "sapo": ("sapo", TOKEN, "group", None, None),
    "cispo": ("cispo", TOKEN, "group", 1.0, 5.0),
}


def test_every_objective_has_its_papers_settings(tmp_path: Path) -> None:
    assert set(EXPECTED) == set(TRL_OBJECTIVES)
    for objective, (loss, level, scaling, low, high) in EXPECTED.items():
        args = trl_world.config(tmp_path, objective=objective)
        assert (args.loss_type, args.importance_sampling_level, args.scale_rewards) == (loss, level, scaling)
        if low is not None:
            assert (args.epsilon, args.epsilon_high) == (low, high)
        assert (args.sapo_temperature_pos, args.sapo_temperature_neg) == (1.0, 1.05)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"epsilon": 0.1}, (0.1, None)),  # symmetric, as in TRL
        ({"epsilon_high": 0.5}, (0.2, 0.5)),
        ({"epsilon": 0.1, "epsilon_high": 0.5}, (0.1, 0.5)),
    ],
)
def test_a_users_clipping_range_stands(tmp_path: Path, given: dict[str, Any], expected: tuple[Any, Any]) -> None:
    args = trl_world.config(tmp_path, objective="dapo", **given)
    assert (args.epsilon, args.epsilon_high) == expected
    settings = with_objective("dapo", given)
    assert (settings["epsilon"], settings.get("epsilon_high")) == expected


def test_cispo_keeps_its_bound_when_epsilon_is_given() -> None:
    assert with_objective("cispo", {"epsilon": 0.1})["epsilon_high"] == 5.0


def test_what_makes_another_objective_is_refused() -> None:
    assert with_objective("gspo", {"loss_type": "grpo"})["importance_sampling_level"] == "sequence"
    with pytest.raises(ConfigError, match="loss_type='dapo' is not that of objective='gspo', 'grpo'"):
        with_objective("gspo", {"loss_type": "dapo"})
    with pytest.raises(ConfigError, match="choose the objective"):
        with_objective("grpo", {"importance_sampling_level": "sequence"})
    with pytest.raises(ConfigError, match="DFDPOTrainer"):
        trl_settings("dpo")
