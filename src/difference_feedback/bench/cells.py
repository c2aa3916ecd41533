"""From a plan to its cells: each combination of method, settings, tasks and seed, fully resolved, with its hash."""

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from difference_feedback.errors import ConfigError
from difference_feedback.runs.check import check_compared
from difference_feedback.runs.loading import build_recipe, load_values, merged
from difference_feedback.runs.plan import BenchMethod
from difference_feedback.runs.recipes import BenchRecipe, Recipe, RepairRLRecipe, RepairSFTRecipe, TrainRecipe
from difference_feedback.runs.validation import nearest


@dataclass(frozen=True)
class Cell:
    """One run of a plan, with everything that shapes its result."""

    method: str
    tasks: str
    seed: int
    settings: dict[str, Any]
    """Swept settings, by dotted key."""
    parts: dict[str, Recipe] = field(repr=False)
    """The recipes that it needs, fully resolved: `sft`, `rl` and `train`."""
    design: dict[str, Any] = field(repr=False)
    """What is hashed: every recipe, and the method without its label and group. Settings at their defaults are left
    out, so that a new setting does not change the hashes of earlier cells."""

    @property
    def hash(self) -> str:
        """Ten characters that differ between cells whose results could differ."""
        text = json.dumps(self.design, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        """The name of the cell's folder. Its hash makes it unique."""
        swept = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in self.settings.items()]
        words = [self.method, *swept, self.tasks, f"seed{self.seed}", self.hash]
        return re.sub(r"[^\w.=-]+", "_", "-".join(words))


def cells_of(plan: BenchRecipe, only: Collection[str] | None = None) -> list[Cell]:
    """The cells in the order in which they run, seed by seed, so that an interrupted plan has run all methods.

    With `only`, the cells of these methods alone. Raises `ConfigError` for a plan that contradicts itself.
    """
    if plan.seed:
        raise ConfigError(f"seed: a plan runs its `seeds`; write seeds='[{plan.seed}]' instead of seed={plan.seed}.")
    for name, method in plan.methods.items():
        for other in method.against:
            if other not in plan.methods:
                raise ConfigError(f"methods.{name}.against: {other!r} is no method.{nearest(other, plan.methods)}")
    for name in only or ():
        if name not in plan.methods:
            raise ConfigError(f"--only {name}: the plan has no such method.{nearest(name, plan.methods)}")
    if len(set(plan.seeds)) < len(plan.seeds):
        raise ConfigError(f"seeds: {plan.seeds} names a seed twice: name each seed once.")
    for key, values in plan.sweep.items():
        if any(value in values[:place] for place, value in enumerate(values)):
            raise ConfigError(f"sweep.{key}: {values} names a value twice: name each value once.")
    return [
        _cell(plan, name, method, tasks, seed, settings)
        for seed in plan.seeds
        for tasks in plan.tasks
        for name, method in plan.methods.items()
        if not only or name in only
        if method.kind != "base" or seed == plan.seeds[0]  # the base is the same for all seeds
        for settings in settings_of(plan, method)
    ]


def check_plan(plan: BenchRecipe, cells: Iterable[Cell] | None = None) -> None:
    """Raise `ConfigError` for a plan with a cell that cannot run, of those in `cells`; by default all are checked."""
    for cell in cells_of(plan) if cells is None else cells:
        check_cell(cell, plan.methods[cell.method])


def check_settings(plan: BenchRecipe, cells: Iterable[Cell] | None = None) -> None:
    """`check_plan` for what stands under `trl:` in the recipes of the cells. It has to import TRL."""
    from difference_feedback.policy.train import host_config
    from difference_feedback.repair.rl import rl_config
    from difference_feedback.repair.sft import sft_config

    checks: dict[str, Callable[[Any], object]] = {"sft": sft_config, "rl": rl_config, "train": host_config}
    for cell in cells_of(plan) if cells is None else cells:
        for part, recipe in cell.parts.items():
            try:
                checks[part](recipe)
            except ConfigError as error:
                raise ConfigError(f"methods.{cell.method}, {part}: {error}") from None


def check_cell(cell: Cell, method: BenchMethod) -> None:
    """Raise `ConfigError` for a cell that cannot run. Models that the cell itself trains first are not checked."""
    trained_before = {"repair_model": method.repair_model is not None, "model": method.oracle_repairs_first}
    made = {"rl": ["model"], "train": [key for key, is_made in trained_before.items() if is_made]}
    for part, recipe in cell.parts.items():
        check_compared(recipe, f"methods.{cell.method}, {part}", made.get(part, ()))


def settings_of(plan: BenchRecipe, method: BenchMethod) -> Iterator[dict[str, Any]]:
    """Every combination of the swept settings; one empty combination if the method has none."""
    swept = plan.sweep if method.kind == "train" else {}
    for values in itertools.product(*swept.values()):
        yield dict(zip(swept, values, strict=True))


def _cell(plan: BenchRecipe, name: str, method: BenchMethod, tasks: str, seed: int, settings: dict[str, Any]) -> Cell:
    parts: dict[str, Recipe] = {}
    source = f"methods.{name}"
    evaluation = plan.evaluation.model_dump(exclude_unset=True)
    if method.kind == "train":
        if method.repair_model or method.oracle_repairs_first:
            stage = [plan.repair_sft, method.repair_sft]
            parts["sft"] = _recipe(RepairSFTRecipe, "nano_repair_sft", stage, seed, (), f"{source}, repair_sft")
        if method.repair_model == "rl":
            stage = [plan.repair_rl, method.repair_rl]
            parts["rl"] = _recipe(RepairRLRecipe, "nano_repair_rl", stage, seed, (), f"{source}, repair_rl")
        changes = [plan.train, {"evaluation": evaluation, "tasks": plan.tasks[tasks]}, method.set]
        budget = {"budget_cpu_seconds": plan.budget_cpu_seconds, "trl": {"max_steps": 1_000_000}}
        overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        parts["train"] = _recipe(TrainRecipe, method.recipe, [budget, *changes], seed, overrides, f"{source}, train")
    elif method.set or method.repair_model or method.oracle_repairs_first:
        raise ConfigError(
            f"{source}: kind {method.kind} has no recipe: leave out set, repair_model and oracle_repairs_first."
        )
    for part, values in (("sft", method.repair_sft), ("rl", method.repair_rl)):
        if values and part not in parts:
            raise ConfigError(
                f"{source}.repair_{part}: this method has no such stage: give repair_model: {part}, or leave it out."
            )
    design: dict[str, Any] = {
        "method": method.model_dump(
            mode="json",
            exclude={"label", "group", "against", "recipe", "set", "repair_sft", "repair_rl"},
            exclude_defaults=True,
        ),
        "tasks": plan.tasks[tasks],
        "seed": seed,
        "evaluation": plan.evaluation.model_dump(mode="json", exclude_defaults=True),
        "parts": {part: recipe.model_dump(mode="json", exclude_defaults=True) for part, recipe in parts.items()},
    }
    return Cell(name, tasks, seed, settings, parts, design)


def _recipe(kind: Any, name: str, changes: list[dict[str, Any]], seed: int, overrides: Any, source: str) -> Any:
    values = load_values(name, kind)
    for change in changes:
        values = merged(values, change)
    return build_recipe(kind, values | {"seed": seed}, overrides, source=source)
