"""Objectives by name: for each its surrogate, the settings of its paper, and the way in which its paper averages.

To add an objective, write its surrogate and decorate it:

    @register("mine", reduction="sequence")
    def mine(log_ratio, advantages, mask, clip): ...

The surrogate must be 0 where the weighted advantage is 0, and the advantage of one token must not change the value of
another. `surrogate_loss` takes care of the weights, of padding, and of `0 * inf`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor

from difference_feedback.errors import ConfigError

Reduction = Literal["sequence", "batch", "constant", "pair"]


class Clip(NamedTuple):
    """Clipping range of the importance ratio: `[1 - low, 1 + high]`."""

    low: float
    high: float


class Temperatures(NamedTuple):
    """Slopes of SAPO's soft clipping, for tokens of positive and of negative advantage."""

    positive: float
    negative: float


class Sharpness(NamedTuple):
    """DPO's `β`: the factor of the log-ratios inside `σ`. A larger one keeps the policy nearer to its reference."""

    beta: float


PPO_CLIP = Clip(0.2, 0.2)

ObjectiveSettings: TypeAlias = Clip | Temperatures | Sharpness
Surrogate: TypeAlias = Callable[..., Tensor]

_OPTIONS: dict[type[ObjectiveSettings], tuple[str, ...]] = {
    Clip: ("clip_low", "clip_high"),
    Temperatures: ("tau_positive", "tau_negative"),
    Sharpness: ("beta",),
}


@dataclass(frozen=True)
class Objective:
    """A per-token surrogate to be maximised, and the way in which its paper averages it.

    The surrogate maps log-ratios, weighted advantages and the completion mask, each `(B, T)`, and the settings to
    `(B, T)`. With `reads_logps` it also gets `logps`, `(B, T)`.

    Reductions:

    - "sequence": the mean over a row's tokens, then the mean over rows (`1/|G'| Σ_i 1/|o_i| Σ_t`);
    - "batch": the mean over all tokens;
    - "constant": the sum over a row's tokens divided by the same number in every row, then the mean over rows;
    - "pair": `log σ` of the sum over the tokens of both rows of a pair, then the mean over pairs.
    """

    surrogate: Surrogate
    reduction: Reduction
    settings: ObjectiveSettings = PPO_CLIP
    reads_logps: bool = False


OBJECTIVES: dict[str, Objective] = {}
"""Every objective by its name: its surrogate, its way of averaging, and the settings of its own paper."""


def register(
    name: str, reduction: Reduction, settings: ObjectiveSettings = PPO_CLIP, reads_logps: bool = False
) -> Callable[[Surrogate], Surrogate]:
    """Register a surrogate under `name`, with its default settings. The function is returned unchanged."""

    def add(surrogate: Surrogate) -> Surrogate:
        OBJECTIVES[name] = Objective(surrogate, reduction, settings, reads_logps)
        return surrogate

    return add


def find_objective(name: str) -> Objective:
    """The objective of this name.

    Raises:
        ConfigError: there is no such objective; the message names the most similar one.
    """
    if name not in OBJECTIVES:
        near = get_close_matches(name, OBJECTIVES, n=1, cutoff=0.0)[0]
        raise ConfigError(f"objective is {name!r}; did you mean {near!r}? There are: {', '.join(sorted(OBJECTIVES))}")
    return OBJECTIVES[name]


def resolve_settings(name: str, options: Mapping[str, float | None]) -> ObjectiveSettings:
    """The settings of the objective `name`: its defaults, replaced by those `options` that are not None.

    Raises:
        ConfigError: an option does not belong to this objective, or a value is out of range.
    """
    defaults = find_objective(name).settings
    names = _OPTIONS[type(defaults)]
    for option, value in options.items():
        if value is not None and option not in names:
            raise ConfigError(
                f"{option} is {value}, but objective {name!r} has no such option; leave it out. Its options are "
                f"{', '.join(names)}"
            )
    replacements = (options.get(option) for option in names)
    settings = type(defaults)(
        *(default if new is None else new for default, new in zip(defaults, replacements, strict=True))
    )
    _check(settings)
    return settings


def _check(settings: ObjectiveSettings) -> None:
    if isinstance(settings, Clip):
        if not (0 <= settings.low <= 1 and settings.high >= 0):
            raise ConfigError(
                f"clip_low is {settings.low} and clip_high is {settings.high}; give a clip_low from 0 to 1 and a "
                "clip_high of 0 or more"
            )
    elif not all(0 < value < float("inf") for value in settings):
        listed = ", ".join(f"{name} is {value}" for name, value in zip(_OPTIONS[type(settings)], settings, strict=True))
        raise ConfigError(f"{listed}; give finite numbers above 0")
