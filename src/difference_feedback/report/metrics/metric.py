"""A logged metric: its name, what it is, the range in which it is healthy, and what to do outside of it."""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

Kind = Literal["grpo", "df-grpo", "verl", "repair-sft", "repair-rl", "dpo", "evaluate", "bench"]
KINDS: dict[Kind, str] = {
    "grpo": "GRPO",
    "df-grpo": "DF-GRPO",
    "verl": "verl",
    "repair-sft": "stage 1",
    "repair-rl": "stage 2",
    "dpo": "DF-DPO",
    "evaluate": "evaluate",
    "bench": "bench",
}
"""What logs it: `train` on TRL by its method, `train` on verl, both stages of the repair model, `DFDPOTrainer`,
`evaluate`, and what a bench adds in its cells."""
UNKNOWN = "No range known; watch its change."


@dataclass(frozen=True)
class Metric:
    """One metric, or a family of metrics whose names differ in a part.

    In `name`, `{a,b}` stands for one of these words, and `<word>` for any text without a slash. The limits are what
    `healthy` says in words; None where there is no number to compare with.
    """

    name: str
    kinds: tuple[Kind, ...]
    unit: str
    text: str
    healthy: str = UNKNOWN
    remedy: str = ""
    low: float | None = None
    high: float | None = None
    when: str = ""
    """Under which settings it is logged; empty: always."""

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches the names of the family."""
        pattern = ""
        for part in re.split(r"(\{.*?\}|<.*?>)", self.name):
            if part.startswith("{"):
                pattern += f"(?:{'|'.join(map(re.escape, part[1:-1].split(',')))})"
            else:
                pattern += "[^/]+" if part.startswith("<") else re.escape(part)
        return re.compile(pattern)

    def problem(self, value: float) -> Literal["below", "above"] | None:
        """ "below" or "above" the range; None for a value within it."""
        if self.low is not None and value < self.low:
            return "below"
        return "above" if self.high is not None and value > self.high else None


@dataclass(frozen=True)
class Topic:
    """What a user wants to know, and the metrics that say it."""

    question: str
    lead: str
    metrics: tuple[Metric, ...]

    def of(self, kind: Kind) -> "Topic":
        """The metrics of one kind of run."""
        return replace(self, metrics=tuple(metric for metric in self.metrics if kind in metric.kinds))
