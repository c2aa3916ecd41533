"""The objectives that TRL's loss computes, by the names of `method.objectives`, with their papers' settings."""

from collections.abc import Mapping
from typing import Any

from difference_feedback.errors import ConfigError
from difference_feedback.method.objectives import OBJECTIVES, Clip, Temperatures
from difference_feedback.runs.validation import nearest

ROW_MEAN_LOSSES = ("grpo", "dr_grpo", "sapo")
"""TRL losses that are a mean over the rows of a micro-batch."""
BATCH_MEAN_LOSSES = ("dapo", "cispo")
"""TRL losses that are divided by `num_items_in_batch`, the tokens of all rows."""

_LOSSES = {name: name for name in (*ROW_MEAN_LOSSES, *BATCH_MEAN_LOSSES)} | {"gspo": "grpo"}
TRL_OBJECTIVES = tuple(_LOSSES)


def trl_settings(objective: str) -> dict[str, Any]:
    """TRL's own settings for an objective: its loss, its ratio, its clipping range or temperatures, its advantages.

    The values are those of `OBJECTIVES`. `epsilon_high` of "cispo" is TRL's: the largest importance weight itself, not
    its distance from 1, and TRL has none for the smallest.

    Raises:
        ConfigError: TRL does not compute this objective; the message says who does.
    """
    if objective == "ppo":
        raise ConfigError("objective is 'ppo', and TRL has no PPO trainer: use host: verl, docs/verl.md.")
    if objective == "dpo":
        raise ConfigError("objective is 'dpo', which trains on preferences and not on rollouts: use DFDPOTrainer.")
    if objective not in _LOSSES:
        raise ConfigError(f"objective is {objective!r}.{nearest(objective, TRL_OBJECTIVES)}")
    settings: dict[str, Any] = {
        "loss_type": _LOSSES[objective],
        "importance_sampling_level": "sequence" if objective == "gspo" else "token",
        "scale_rewards": "none" if objective == "dr_grpo" else "group",
    }
    match OBJECTIVES[objective].settings:
        case Clip(low, high):
            settings |= {"epsilon": low, "epsilon_high": 1 + high if objective == "cispo" else high}
        case Temperatures(positive, negative):
            settings |= {"sapo_temperature_pos": positive, "sapo_temperature_neg": negative}
    return settings


def with_objective(objective: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """TRL's settings for an objective, with a user's `changes`.

    If only the lower clipping range changes, the upper one equals it, as in TRL.

    Raises:
        ConfigError: the changes make another objective, or there is no objective of this name.
    """
    settings = trl_settings(objective)
    for name in ("loss_type", "importance_sampling_level"):
        if changes.get(name, settings[name]) != settings[name]:
            raise ConfigError(
                f"{name}={changes[name]!r} is not that of objective={objective!r}, {settings[name]!r}; leave it "
                f"out and choose the objective: {', '.join(TRL_OBJECTIVES)}."
            )
    if "epsilon" in changes and objective != "cispo":
        settings.pop("epsilon_high", None)
    return settings | dict(changes)
