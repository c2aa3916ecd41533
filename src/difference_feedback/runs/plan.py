"""The methods of a bench's plan."""

from typing import Annotated, Any, Literal

from pydantic import Field

from difference_feedback.runs.sections import Section
from difference_feedback.runs.value_types import PositiveInt

Group = Literal["main", "weights", "repair model", "labels"]
"""What a method belongs to: the main comparison, or ablations of the weights, the repair model, or the labels."""


class BenchMethod(Section):
    """One row of the comparison: how a policy is made from the base."""

    label: str
    """Its name in tables and plots."""
    group: Group = "main"
    kind: Literal["base", "supervised", "train"] = "train"
    """`base`: the base is measured, not trained. `supervised`: the base is trained on the labels of the RL images, for
    the upper bound. `train`: the policy is trained by a `train` recipe."""
    recipe: str = "nano_grpo"
    """The `train` recipe: a file, or the name of a shipped recipe. The plan's `train` overrides its values, and `set`
    overrides both."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Values of this method, nested as in the recipe."""
    repair_model: Literal["sft", "rl"] | None = None
    """Train a repair model first: `sft` by stage 1, `rl` by both stages. Its processor time counts for the method."""
    repair_sft: dict[str, Any] = Field(default_factory=dict)
    """Values of this method for stage 1 of its repair model, over those of the plan."""
    repair_rl: dict[str, Any] = Field(default_factory=dict)
    """The same for stage 2, with `repair_model: rl`."""
    oracle_repairs_first: bool = False
    """Train the policy first on the oracle's repairs of stage 1, as on ordinary answers. This time counts as well."""
    steps: PositiveInt = 400
    """Number of updates of `supervised`, which has no other budget."""
    against: list[str] = Field(default_factory=list)
    """Methods to compare with. The tables show this method minus each of them."""


Sweep = Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(default_factory=dict)]
"""Dotted key of the `train` recipe -> values. Every trained method runs with every combination."""
