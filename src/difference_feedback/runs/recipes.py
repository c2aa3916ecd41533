"""Recipes: everything that can be run, one class for each kind.

A recipe's own fields hold what no library knows. The settings of a trainer stand under `trl:` by the library's own
names and are checked against the library's own fields when it starts.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from difference_feedback.runs.plan import BenchMethod, Sweep
from difference_feedback.runs.sections import (
    Audit,
    Data,
    Endpoint,
    EvaluationSettings,
    Judge,
    Lora,
    ObjectiveName,
    PolicyEndpoint,
    Repairs,
    Reward,
    Section,
    Tasks,
    TextOnly,
    VisualFactor,
)
from difference_feedback.runs.value_types import (
    NonNegativeInt,
    PathOrName,
    PositiveInt,
    ProblemCount,
    Rate,
    Seconds,
    Seed,
    Share,
    Temperature,
)


class Recipe(Section):
    """The base of all recipes."""

    changeable: ClassVar[tuple[str, ...]] = ("audit.when_down", "judge.when_down")
    """Keys that may change in a run's folder: what was measured there does not depend on them."""

    seed: Seed = 0


class BaseRecipe(Recipe):
    """The nano base: a Qwen2.5-VL of 0.66 M parameters, trained from scratch on labelled images of the six tasks."""

    kind: Literal["base"] = "base"
    steps: PositiveInt = 3600
    caption_steps: NonNegativeInt = 600
    """How many of `steps`, the first ones, train on descriptions of the images, which teach perception."""
    batch_size: PositiveInt = 32
    learning_rate: Rate = 3e-3
    rewrite_share: Share = 0.25
    """Share of the steps after the captions that train "rewrite this draft", as any instruction-tuned model can do."""
    upper_bound_steps: NonNegativeInt = 1000
    """Further supervised steps on the labelled RL images, which measure what labels are worth. 0: none."""
    evaluation: EvaluationSettings = EvaluationSettings()


class ModelRecipe(Recipe):
    """A recipe that starts from a model."""

    model: PathOrName = "nano"
    """`nano` for the shipped base, else a local folder or a hub name (safetensors only, no remote code)."""
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Precision of the computation. Weights that are trained are in float32 all the same; see `trl.precision`."""
    attention: str | None = None
    """Attention implementation, by transformers' names: `sdpa`, `flash_attention_2`, ..."""
    system_prompt: str | None = None
    """The system message of every prompt: a text, or the path of a text file (.txt, .md). A repair model should be
    trained with that of the policy that it will repair."""


class Published(Section):
    """Where a run's measurements and its model go, besides the run's folder."""

    report_to: str | list[str] | None = None
    """Trackers, by their names in transformers (on verl, by verl's): `tensorboard`, `wandb`, `trackio`, ... The run is
    named as its folder is. metrics.jsonl is written in any case."""
    push_to_hub: str | None = None
    """`owner/name` on the hub: the finished run's model is uploaded there, with a model card. A repository that does
    not exist yet is made private. The token is that of `hf auth login`, or the environment's `HF_TOKEN`."""

    @property
    def trackers(self) -> list[str]:
        """The trackers, whether they are named here or by `trl.report_to`."""
        names = self.report_to or getattr(self, "trl", {}).get("report_to") or []
        return [names] if isinstance(names, str) else list(names)


class Questions(Section):
    """The questions that a model answers, how they are put to it, and how its answers are graded."""

    data: Data | None = None
    """Your own questions instead of the embedded ones."""
    format_prompt: str | None = None
    """The user's turn, with `{question}` where the question goes: `"{question} First think in <think> </think> tags,
    then give the final answer in \\boxed{}."` It replaces `data.instruction`. Or a file: a text (.txt, .md), or a jinja
    template (.jinja) of `content`, as EasyR1 has them."""
    max_prompt_length: PositiveInt | None = None
    """Longest prompt in tokens, those of its images included. Longer ones are left out and listed. By default what the
    model's context holds beside the answer. A repair prompt is longer: it adds the wrong answer and the reference."""
    reward: Reward | None = None
    """By default the embedded checker for embedded problems, the final-answer rule for `data`."""
    reward_threshold: float | None = None
    """An answer is right if its (summed) reward is at least this, in training and on held-out questions; by default
    1.0."""


class QuestionRecipe(Questions, ModelRecipe):
    """A recipe whose model answers questions and is graded."""


class RepairSFTRecipe(ModelRecipe, Published):
    """Repair model, stage 1: supervised on hand-repaired answers. [DF, Eq. 1]"""

    kind: Literal["repair-sft"] = "repair-sft"
    drafts: ProblemCount = 1000
    """Number of wrong answers that the oracle of the embedded world repairs for the training."""
    data: PathOrName | None = None
    """A JSONL file of answers repaired by people, or the folder that `annotate` takes, in place of the oracle's
    repairs."""
    max_length: PositiveInt | None = None
    """Longest prompt and repair together, in tokens. Longer ones are left out and listed. By default the model's
    context."""
    lora: Lora | None = None
    """Train an adapter on `model`; by default all weights."""
    evaluation: EvaluationSettings = EvaluationSettings()
    trl: dict[str, Any] = Field(default_factory=dict)
    """Settings of TRL's `SFTConfig`."""


class RepairRLRecipe(QuestionRecipe, Published):
    """Repair model, stage 2: reinforcement learning with the reward `g_audit g_vis (R - lambda C_edit)`. [DF, Eq. 4]"""

    kind: Literal["repair-rl"] = "repair-rl"
    policy: PathOrName = "nano"
    """The model whose wrong answers are repaired."""
    drafts: ProblemCount = 1000
    """Number of wrong answers to train on."""
    test_data: Data | None = None
    """Held-out real questions; without them a run on real data is not measured."""
    objective: ObjectiveName = "grpo"
    """The objective of the training. Choose that of the policy."""
    edit_cost_weight: Annotated[float, Field(ge=0.0, le=1e3)] = 0.5
    """lambda of Eq. 4."""
    visual_factor: VisualFactor = VisualFactor()
    audit: Audit = Audit()
    text_only: TextOnly = TextOnly()
    lora: Lora | None = None
    """Train an adapter on `model`; by default all weights, or the adapter that `model` is."""
    sft_only: bool = False
    """Keep the model of stage 1 as it is: the ablation without this stage."""
    budget_cpu_seconds: Seconds | None = None
    budget_gpu_seconds: Seconds | None = None
    stop_at_plateau: bool = False
    """Stop once the share of right repairs no longer rises."""
    evaluation: EvaluationSettings = EvaluationSettings()
    trl: dict[str, Any] = Field(default_factory=dict)
    """Settings of TRL's `GRPOConfig`, and `leave_out_rows`: false keeps rows without a gradient in the update."""


EMBEDDED_REPAIRERS = ("oracle", "blind_rewriter", "reference")
"""What `repair_model` may name instead of a model, in the embedded world; see `repair.embedded`."""
DRAFT_SCORES = ("log_ratio", "doubt")
"""Values of `trl.weights` with which the repair model scores wrong answers; see `method.draft_scores`."""


class TrainRecipe(QuestionRecipe, Published):
    """The policy, with Difference Feedback or by the plain objective. [DF, Eqs. 11-28]"""

    kind: Literal["train"] = "train"
    method: Literal["grpo", "df-grpo", "ar-grpo", "prime"] = "df-grpo"
    """`grpo`: without Difference Feedback, by the `objective`. To compare with, on TRL alone: `ar-grpo` (advantages
    reweighted by the tokens' probabilities) and `prime` (an implicit process reward model, trained online)."""
    objective: ObjectiveName = "grpo"
    host: Literal["trl", "verl"] = "trl"
    """The trainer. verl needs an environment of its own."""
    repair_model: PathOrName | None = None
    """Folder or hub name of the repair model; DF-GRPO needs one. `policy`: the policy repairs its own answers, with
    its weights of that moment. The embedded world has three more: `oracle` knows the truth and makes the closest right
    answer, `blind_rewriter` writes perfect sentences but never sees the image, `reference` takes the reference as the
    repair."""
    repairs: Repairs = Repairs()
    lora: Lora | None = None
    """Train an adapter on `model`; by default all weights. A `repair_model` that is an adapter on the same model then
    shares its weights."""
    problems: ProblemCount = 2000
    """Embedded problems to train on, where `data` names no other."""
    tasks: Tasks | None = None
    """Embedded tasks; by default all six."""
    test_data: Data | None = None
    """Held-out real questions; without them a run on real data is not evaluated."""
    judge: Judge | None = None
    """The language model that grades, with `reward: llm-judge`."""
    keep_wrong_answers: NonNegativeInt = 0
    """Number of the policy's wrong answers to keep for `annotate`, each with a right one to the same question."""
    budget_cpu_seconds: Seconds | None = None
    """Stop once the run has spent this much processor time on training, even before `trl.max_steps`. The schedule of
    the learning rate covers this time."""
    budget_gpu_seconds: Seconds | None = None
    """The same in GPU time: wall seconds times the GPUs that the run holds, its servers' included."""
    evaluation: EvaluationSettings = EvaluationSettings()
    trl: dict[str, Any] = Field(default_factory=dict)
    """Settings of `DFGRPOConfig`, which include those of TRL's `GRPOConfig` (the other methods take only the latter,
    `leave_out_rows`, and settings of their own). verl reads those that it has a counterpart of."""
    verl: dict[str, Any] = Field(default_factory=dict)
    """verl's own settings, with `host: verl`."""

    @property
    def verl_settings(self) -> dict[str, Any]:
        """What stands under `verl`, dotted key -> value."""
        return _flat(self.verl)

    @property
    def needs_repairer(self) -> bool:
        """Whether wrong answers are repaired or scored, by the settings that `DFGRPOConfig` will read."""
        makes_pairs = self.trl.get("regroup", True) or self.trl.get("weights", "mask") != "ones"
        repairs = makes_pairs and self.trl.get("num_repairs") != 0
        return bool(self.method == "df-grpo" and (repairs or self.scores_drafts))

    @property
    def scores_drafts(self) -> bool:
        """Whether the repair model scores wrong answers, and makes no repairs."""
        return self.method == "df-grpo" and self.trl.get("weights") in DRAFT_SCORES


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            settings |= _flat(value, f"{prefix}{key}.")
        else:
            settings[prefix + key] = value
    return settings


class EvaluateRecipe(QuestionRecipe):
    """Accuracy of a model on held-out embedded problems or on a data set."""

    kind: Literal["evaluate"] = "evaluate"
    tasks: Tasks | None = None
    """Embedded tasks; by default all six."""
    judge: Judge | None = None
    evaluation: EvaluationSettings = EvaluationSettings()


class BenchmarksRecipe(ModelRecipe):
    """Scores of a model on public benchmarks, by the harness lmms-eval."""

    kind: Literal["benchmarks"] = "benchmarks"
    tasks: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    """`mathvista`, `mmstar`, `mmmu`, `mathverse`, `mathvision`, `ai2d`, or the harness's own names of tasks."""
    data: dict[str, PathOrName] = Field(default_factory=dict)
    """Local copies of the tasks' data, by the names in `tasks`: a folder of `save_to_disk`, a file in parquet or JSON
    Lines, or a copy of the data set's repository. By default the harness loads from the hub."""
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "auto"
    """Precision of the weights and the computation; by default that of the model's file."""
    format_prompt: str | None = None
    """Put around the harness's prompt, `"{question} ..."`, as in a recipe of kind `train`."""
    max_new_tokens: PositiveInt | None = None
    """Longest answer, in tokens. By default what each task says, and at most half of the model's context."""
    temperature: Temperature | None = None
    """0 answers greedily. By default what each task says, which is 0 but for a few."""
    limit: PositiveInt | None = None
    """Only the first rows of each task, for a try. By default all."""
    batch_size: PositiveInt = 16
    """Answers at the same time, on each rank."""
    max_pixels: PositiveInt = 1_605_632
    """Larger images are scaled down in proportion. The harness's models of the Qwen family have this limit."""
    endpoint: PolicyEndpoint | None = None
    """A vLLM server that answers in place of a model in this process."""
    judge: Endpoint | None = None
    """A language model for the tasks whose own score asks one. Without it no server is asked, and those scores are left
    out. The rule of this package needs none."""


TaskSets = Annotated[dict[str, Tasks | None], Field(min_length=1, default_factory=lambda: {"mixture": None})]


class BenchRecipe(Recipe):
    """A plan of comparisons at matched compute: methods x seeds x tasks, each cell a run of its own; the demo is one.

    What stands under `train`, `repair_sft` and `repair_rl` is put over the shipped nano recipes for every method.
    """

    kind: Literal["bench"] = "bench"
    seeds: Annotated[list[Seed], Field(min_length=1, default_factory=lambda: list(range(5)))]
    tasks: TaskSets
    """Sets of embedded tasks by name; null is all six."""
    budget_cpu_seconds: Seconds
    """Processor time of every trained method, the making of its repair model included."""
    evaluation: EvaluationSettings = EvaluationSettings()
    train: dict[str, Any] = Field(default_factory=dict)
    repair_sft: dict[str, Any] = Field(default_factory=dict)
    repair_rl: dict[str, Any] = Field(default_factory=dict)
    methods: Annotated[dict[str, BenchMethod], Field(min_length=1)]
    sweep: Sweep
    """For tuning: a cell for every combination of these settings, in place of one."""
    examples: NonNegativeInt = 0
    """Repaired wrong answers to show in the report that `demo` writes."""
