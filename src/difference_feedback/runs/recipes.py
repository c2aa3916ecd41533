"""Recipes: everything that can be run, as typed YAML with `key=value` overrides.

A recipe is a YAML mapping whose `kind` says what it runs. Its own fields hold what no library knows; the settings of a
trainer stand under `trl:` by the library's own names and are checked against the library's own fields when it starts.
Every mistake ends in a `ConfigError` that names the place, the key and the nearest thing that would have worked.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from difference_feedback.errors import ConfigError
from difference_feedback.runs.plan import Method, Sweep
from difference_feedback.runs.sections import (
    Audit,
    Data,
    Evaluation,
    Judge,
    Lora,
    ObjectiveName,
    PositiveInt,
    Repairs,
    Reward,
    Section,
    Share,
    TaskName,
    TextOnly,
    VisualFactor,
)
from difference_feedback.runs.settings import describe, explain, nearest
from difference_feedback.runs.yaml_text import parse_yaml

R = TypeVar("R", bound="Recipe")


class Recipe(Section):
    """What all recipes share."""

    seed: Annotated[int, Field(ge=0)] = 0


class BaseRecipe(Recipe):
    """The nano base: a Qwen2.5-VL of 0.66 M parameters, trained from scratch on labelled images of the six tasks."""

    kind: Literal["base"] = "base"
    steps: PositiveInt = 3600
    caption_steps: Annotated[int, Field(ge=0)] = 600
    """The first of `steps`, on descriptions of the images, which teach perception."""
    batch_size: PositiveInt = 32
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    rewrite_share: Share = 0.25
    """Share of the steps after the captions that are "rewrite this draft", as any instruction-tuned model can do."""
    upper_bound_steps: Annotated[int, Field(ge=0)] = 1000
    """Further supervised steps on the labelled RL images: what labels could buy. 0 leaves the figure out."""
    evaluation: Evaluation = Evaluation()


class ModelRecipe(Recipe):
    """A recipe that starts from a model."""

    model: str = "nano"
    """`nano` for the shipped base, else a local folder or a hub name (safetensors only, no remote code)."""
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    attention: str | None = None
    """Attention implementation, by transformers' names: `sdpa`, `flash_attention_2`, ..."""


class RepairSFTRecipe(ModelRecipe):
    """Repair model, stage 1: supervised on hand-repaired answers. [DF, Eq. 1]"""

    kind: Literal["repair-sft"] = "repair-sft"
    drafts: PositiveInt = 1000
    """Wrong answers repaired by hand, in the embedded world by its oracle."""
    data: str | None = None
    """A JSONL file of hand-repaired answers instead of the embedded oracle's."""
    lora: Lora | None = None
    """Train an adapter on `model`; by default all weights."""
    evaluation: Evaluation = Evaluation()
    trl: dict[str, Any] = Field(default_factory=dict)
    """Settings of TRL's `SFTConfig`."""


class RepairRLRecipe(ModelRecipe):
    """Repair model, stage 2: reinforcement learning with `g_audit g_vis (R - lambda C_edit)`. [DF, Eq. 4]"""

    kind: Literal["repair-rl"] = "repair-rl"
    policy: str = "nano"
    """The model whose wrong answers are repaired."""
    drafts: PositiveInt = 1000
    data: Data | None = None
    """Real questions to draw the drafts from, instead of the embedded ones."""
    test_data: Data | None = None
    """Held-out real questions; without them a run on real data is not measured."""
    objective: ObjectiveName = "grpo"
    """Take the one that trains the policy."""
    edit_cost_weight: Annotated[float, Field(ge=0.0)] = 0.5
    """lambda of Eq. 4."""
    visual_factor: VisualFactor = VisualFactor()
    audit: Audit = Audit()
    text_only: TextOnly = TextOnly()
    lora: Lora | None = None
    """Train an adapter on `model`; by default all weights, or the adapter that `model` is."""
    sft_only: bool = False
    """Take the model as it comes from stage 1: the ablation without this stage."""
    budget_cpu_seconds: Annotated[float, Field(gt=0)] | None = None
    stop_at_plateau: bool = False
    """Stop once the share of right repairs no longer rises."""
    evaluation: Evaluation = Evaluation()
    trl: dict[str, Any] = Field(default_factory=dict)
    """Settings of TRL's `GRPOConfig`."""


class TrainRecipe(ModelRecipe):
    """The policy, with Difference Feedback or by the plain objective. [DF, Eqs. 11-28]"""

    kind: Literal["train"] = "train"
    method: Literal["grpo", "df-grpo"] = "df-grpo"
    """`grpo`: without Difference Feedback, by whatever `objective` says."""
    objective: ObjectiveName = "grpo"
    host: Literal["trl", "verl"] = "trl"
    """Who trains. verl has an environment of its own."""
    repair_model: str | None = None
    """Folder or hub name of the repair model; DF-GRPO needs one. `policy`: the policy repairs its own answers, with
    the weights that it has by then. In the embedded world three controls: `oracle` repairs by hand, `blind_rewriter`
    rewrites without fault or truth, `reference` takes the reference itself for the repair."""
    repairs: Repairs = Repairs()
    lora: Lora | None = None
    """Train an adapter on `model`; by default all weights. A `repair_model` that is an adapter on the same model then
    shares its weights."""
    problems: PositiveInt = 2000
    """Embedded problems to train on, where `data` names no other."""
    tasks: list[TaskName] | None = None
    data: Data | None = None
    """Real questions instead of the embedded ones."""
    test_data: Data | None = None
    """Held-out real questions; without them a run on real data is not evaluated."""
    reward: Reward | None = None
    """By default the embedded checker for embedded problems, the final-answer rule for `data`."""
    judge: Judge | None = None
    """The language model that grades, with `reward: llm-judge`."""
    keep_wrong_answers: Annotated[int, Field(ge=0)] = 0
    """Keep so many of the policy's wrong answers, each with a right one to the same question, for `annotate`."""
    budget_cpu_seconds: Annotated[float, Field(gt=0)] | None = None
    """Stop once the process has spent this much processor time on training, before `trl.max_steps` if need be.
    The learning rate's schedule runs over it."""
    evaluation: Evaluation = Evaluation()
    trl: dict[str, Any] = Field(default_factory=dict)
    """Settings of `DFGRPOConfig`, TRL's `GRPOConfig` included (GRPO takes the latter's alone). verl reads those that it
    has a counterpart of."""
    verl: dict[str, Any] = Field(default_factory=dict)
    """verl's own settings, with `host: verl`."""


class EvaluateRecipe(ModelRecipe):
    """Accuracy of a model on held-out embedded problems or on a data set."""

    kind: Literal["evaluate"] = "evaluate"
    tasks: list[TaskName] | None = None
    data: Data | None = None
    reward: Reward | None = None
    judge: Judge | None = None
    evaluation: Evaluation = Evaluation()


class DemoRecipe(Recipe):
    """The whole method on the embedded world, GRPO and DF-GRPO at the same measured compute.

    Its parts are the shipped recipes `nano_repair_sft`, `nano_repair_rl`, `nano_grpo` and `nano_df_grpo`, with what is
    given here put over them.
    """

    kind: Literal["demo"] = "demo"
    budget_cpu_seconds: Annotated[float, Field(gt=0)] = 210.0
    """Processor time for each method, the training of DF-GRPO's repair model included."""
    repair_sft: RepairSFTRecipe
    repair_rl: RepairRLRecipe
    grpo: TrainRecipe
    df_grpo: TrainRecipe
    upper_bound_steps: PositiveInt = 300
    """Supervised steps on the labelled RL images, which make the upper bound."""
    evaluation: Evaluation = Evaluation()
    examples: PositiveInt = 24
    """Repaired answers shown in the report."""

    @model_validator(mode="before")
    @classmethod
    def _parts_from_shipped_recipes(cls, values: dict[str, Any]) -> dict[str, Any]:
        return values | {part: _shipped_part(part, values.get(part)) for part in DEMO_PARTS}


DEMO_PARTS = ("repair_sft", "repair_rl", "grpo", "df_grpo")


def _shipped_part(part: str, changes: Any) -> Any:
    """The shipped recipe of a demo's part with `changes` put over it."""
    if changes is not None and not isinstance(changes, Mapping):
        return changes  # of the wrong type, which pydantic says
    path = shipped_recipes()[f"nano_{part}"]
    return merged(parse_yaml(path.read_text(encoding="utf-8"), str(path)), changes or {})


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `changes` put over them, mappings merged key by key."""
    both = _deep_copy(values)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(both.get(key), Mapping)
        both[key] = merged(both[key], value) if nested else value
    return both


TaskSets = Annotated[dict[str, list[TaskName] | None], Field(min_length=1, default_factory=lambda: {"mixture": None})]


class BenchRecipe(Recipe):
    """A plan of comparisons at matched compute: methods x seeds x tasks, each cell a run of its own.

    What stands under `train`, `repair_sft` and `repair_rl` is put over the shipped nano recipes for every method.
    """

    kind: Literal["bench"] = "bench"
    seeds: Annotated[list[int], Field(min_length=1, default_factory=lambda: list(range(5)))]
    tasks: TaskSets
    """Sets of embedded tasks by name; null is all six."""
    budget_cpu_seconds: Annotated[float, Field(gt=0)]
    """Processor time of every trained method, the making of its repair model included."""
    evaluation: Evaluation = Evaluation()
    train: dict[str, Any] = Field(default_factory=dict)
    repair_sft: dict[str, Any] = Field(default_factory=dict)
    repair_rl: dict[str, Any] = Field(default_factory=dict)
    methods: Annotated[dict[str, Method], Field(min_length=1)]
    sweep: Sweep
    """For tuning: a cell for every combination of these settings, in place of one."""


AnyRecipe = BaseRecipe | RepairSFTRecipe | RepairRLRecipe | TrainRecipe | EvaluateRecipe | DemoRecipe | BenchRecipe
RECIPES: dict[str, type[Recipe]] = {
    "base": BaseRecipe,
    "repair-sft": RepairSFTRecipe,
    "repair-rl": RepairRLRecipe,
    "train": TrainRecipe,
    "evaluate": EvaluateRecipe,
    "demo": DemoRecipe,
    "bench": BenchRecipe,
}


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that come with the package, in a wheel and in a checkout alike."""
    package = Path(__file__).parents[1]
    folder = next((f for f in (package / "shipped_recipes", package.parents[1] / "recipes") if f.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {}


def load_recipe(source: str | Path, kind: type[R], overrides: Sequence[str] = ()) -> R:
    """Load a recipe: a YAML file or a shipped one's name, with `key=value` overrides (dotted keys for nested ones).

    Raises `ConfigError` for a missing file, text that is not YAML, another kind of recipe, an unknown key or a value
    of the wrong type; the message names the file or the override, the key, and the nearest valid one.
    """
    return build_recipe(kind, load_values(source, kind), overrides, source=str(_find(source)))


def load_values(source: str | Path, kind: type[Recipe]) -> dict[str, Any]:
    """A recipe's values as they stand in its file, checked for nothing but its kind. Raises as `load_recipe`."""
    path = _find(source)
    values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of keys to values, this is {describe(values)}.")
    wanted = kind.model_fields["kind"].default
    given = values.get("kind")
    if given != wanted:
        raise ConfigError(
            f"{path}: kind is {given!r}, this command runs recipes with `kind: {wanted}`." + _nearest_recipe(wanted)
        )
    return values


def build_recipe(kind: type[R], values: Mapping[str, Any], overrides: Sequence[str] = (), source: str = "recipe") -> R:
    """Check `values` with the overrides applied; `source` is what error messages call their origin."""
    merged = _deep_copy(values)
    overridden: dict[str, str] = {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise ConfigError(f"override {override!r}: write it as key=value, for example seed=1 or trl.max_steps=100.")
        overridden[key] = override
        _assign(merged, key, parse_yaml(text, f"override {override!r}"))
    try:
        return kind.model_validate(merged)
    except ValidationError as error:
        problems = [explain(kind, dict(item), overridden, source) for item in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(problems))) from None


def fingerprint(recipe: Recipe) -> str:
    """Eight characters that differ between recipes: the name under which what they make is kept."""
    return hashlib.sha256(dump_recipe(recipe).encode()).hexdigest()[:8]


def dump_recipe(recipe: Recipe) -> str:
    """The recipe with every default spelled out, as YAML that loads to the same recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _find(source: str | Path) -> Path:
    path, shipped = Path(source), shipped_recipes()
    if path.is_file():
        return path
    if str(source) in shipped:
        return shipped[str(source)]
    raise ConfigError(f"{source}: no such file, and no shipped recipe has this name.{nearest(str(source), shipped)}")


def _nearest_recipe(kind: str) -> str:
    names = [n for n, path in shipped_recipes().items() if f"kind: {kind}\n" in path.read_text(encoding="utf-8")]
    return f" Shipped ones: {', '.join(names)}." if names else ""


def _deep_copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _deep_copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _assign(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(values.get(parent), dict):
            values[parent] = {}
        values = values[parent]
    values[last] = value
