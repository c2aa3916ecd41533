"""What a plan of the bench consists of: methods, and what each of them is made of."""

from typing import Annotated, Any, Literal

from pydantic import Field

from difference_feedback.runs.sections import PositiveInt, Section

Group = Literal["main", "weights", "repair model", "labels"]
"""The question that a method helps to answer: does it work, is it the gate, the repair model, the labels?"""


class BenchMethod(Section):
    """One row of the comparison: how a policy is made from the base."""

    label: str
    """As tables and plots call it."""
    group: Group = "main"
    kind: Literal["base", "supervised", "train"] = "train"
    """`base`: the start as it is. `supervised`: labels on the RL images, the upper bound. `train`: a `train` recipe."""
    recipe: str = "nano_grpo"
    """The `train` recipe, a file or a shipped one's name; the plan's `train` and then `set` are put over it."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Values put over the recipe, nested as in it."""
    repair_model: Literal["sft", "rl"] | None = None
    """Train a repair model first, by stage 1 alone or by both; all of it is billed."""
    oracle_repairs_first: bool = False
    """Train the policy first on the oracle's repairs of stage 1, as ordinary answers; billed."""
    steps: PositiveInt = 400
    """Updates of `supervised`, which has no other budget."""
    against: list[str] = Field(default_factory=list)
    """Methods to compare with: reported is this one minus each of them."""


Sweep = Annotated[dict[str, list[Any]], Field(default_factory=dict)]
"""Dotted key of the `train` recipe -> values; every trained method is run with every combination."""
