"""Objectives by name: a surrogate, the settings its paper gives it, and how its paper averages.

To add an objective, write its surrogate and decorate it:

    @register("mine", reduction="sequence")
    def mine(log_ratio, advantages, mask, clip): ...

It must be 0 where the weighted advantage is 0, and one token's advantage must not change another's value. The gate,
padding, and safety against `0 * inf` are done around it.
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
    """Slopes of a soft gate, for tokens of positive and of negative advantage."""

    positive: float
    negative: float


class Sharpness(NamedTuple):
    """DPO's `β`: the factor of the log-ratios inside `σ`. Larger keeps the policy nearer to its reference."""

    beta: float


PPO_CLIP = Clip(0.2, 0.2)

Settings: TypeAlias = Clip | Temperatures | Sharpness
Surrogate: TypeAlias = Callable[..., Tensor]

_OPTIONS: dict[type[Settings], tuple[str, ...]] = {
    Clip: ("clip_low", "clip_high"),
    Temperatures: ("tau_positive", "tau_negative"),
    Sharpness: ("beta",),
}


@dataclass(frozen=True)
class Objective:
    """A per-token surrogate to be maximised, and how its paper averages it.

    The surrogate maps log-ratios, weighted advantages and the completion mask, each `(B, T)`, and the settings to
    `(B, T)`; with `reads_logps` it is handed `logps`, `(B, T)`, as well.

    Reductions: "sequence" is the mean over a row's tokens, then over rows (`1/|G'| Σ_i 1/|o_i| Σ_t`); "batch" the mean
    over all tokens; "constant" the sum over a row's tokens divided by the same number in every row, then the mean over
    rows; "pair" the sum over the tokens of both rows of a pair, `log σ` of it, then the mean over pairs.
    """

    surrogate: Surrogate
    reduction: Reduction
    settings: Settings = PPO_CLIP
    reads_logps: bool = False


OBJECTIVES: dict[str, Objective] = {}


def register(
    name: str, reduction: Reduction, settings: Settings = PPO_CLIP, reads_logps: bool = False
) -> Callable[[Surrogate], Surrogate]:
    """Make a surrogate known under `name`, with its default settings. The function itself is returned unchanged."""

    def add(surrogate: Surrogate) -> Surrogate:
        OBJECTIVES[name] = Objective(surrogate, reduction, settings, reads_logps)
        return surrogate

    return add


def find_objective(name: str) -> Objective:
    """The objective of this name.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name not in OBJECTIVES:
        near = get_close_matches(name, OBJECTIVES, n=1, cutoff=0.0)[0]
        raise ConfigError(f"objective is {name!r}; did you mean {near!r}? There are: {', '.join(sorted(OBJECTIVES))}")
    return OBJECTIVES[name]


def resolve_settings(name: str, options: Mapping[str, float | None]) -> Settings:
    """The settings of the objective `name`: its own, replaced by those `options` that are not None.

    Raises:
        ConfigError: an option that this objective does not have, or a value out of range.
    """
    defaults = find_objective(name).settings
    names = _OPTIONS[type(defaults)]
    for option, value in options.items():
        if value is not None and option not in names:
            raise ConfigError(f"{option} is {value}, and objective {name!r} has none; it has {', '.join(names)}")
    given = (options.get(option) for option in names)
    settings = type(defaults)(*(own if new is None else new for own, new in zip(defaults, given, strict=True)))
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    if isinstance(settings, Clip):
        if not (0 <= settings.low <= 1 and settings.high >= 0):
            raise ConfigError(
                f"clip_low is {settings.low}, clip_high {settings.high}; use 0 to 1 for the first, 0 or more for both"
            )
    elif not all(0 < value < float("inf") for value in settings):
        found = ", ".join(f"{name} {value}" for name, value in zip(_OPTIONS[type(settings)], settings, strict=True))
        raise ConfigError(f"{found}: use numbers above 0")
