"""The files that the report reads: the schema of summary.json, metrics.jsonl and examples.jsonl in run folders.

The report reads each folder that it is given and the run folders directly below; of a bench or a demo, its cells and
the repair models that they share. Fields marked "Needed" must be there. Any other field may be missing; the page then
leaves out the part that shows it. Keys that the schema does not name are ignored.

    summary.json     a `Summary`: that of a training run has `method`, `accuracy`, ... and `cost`; that of an
                     `evaluate` run has `model` in place of the method
    results.jsonl    the rows of a bench, see `bench.results`: labels, start and upper bound
    metrics.jsonl    a row with `accuracy` and a clock is a point of the learning curve (`CurvePoint`); one with
                     `reward` of the curve that is shown where there is no other
    examples.jsonl   each row is an `Example`: a wrong answer, its repair, masks, advantages
    benchmarks/TASK/summary.json    a `BenchmarkScore`, of the run's model
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, model_validator

from difference_feedback.judges.agreement import Agreement
from difference_feedback.judges.audit_log import AuditStatistics
from difference_feedback.method.cost import CostTerms

LARGEST = 1e100
"""Numbers beyond it are no measurements, and sums of their squares overflow."""
DATA_URL = re.compile(r"data:image/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+=*")


def _embedded(url: str) -> str:
    if not DATA_URL.fullmatch(url):
        raise ValueError(f"it is {url[:40]!r}: give a data URL of a PNG, JPEG, WebP or GIF image")
    return url


Step = Annotated[int, Field(ge=0, le=2**53)]
Accuracy = Annotated[float, Field(ge=0.0, le=1.0)]
Interval = tuple[float, float]
Clock = Literal["wall", "cpu", "gpu"]
ImageURL = Annotated[str, AfterValidator(_embedded)]


class Schema(BaseModel):
    """A part of the files. Unknown keys are ignored, because runs write more than the report shows."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class MethodResult(Schema):
    """The result of one training method, or of a model that was evaluated."""

    accuracy: Accuracy
    """Needed. Held-out accuracy at the end."""
    interval: Interval | None = None
    """95 % interval of the accuracy."""
    problems: int | None = None
    """Number of held-out problems."""
    steps: int | None = None
    """Updates of the policy."""
    cpu_seconds: float | None = None
    """All processor time that counts for the method, `setup_cpu_seconds` included. None: the host cannot measure it."""
    gpu_seconds: float | None = None
    """The same of GPU time. None: the run held no GPU."""
    wall_seconds: float | None = None
    """Wall time of the training steps without evaluations, where the host cannot measure processor time."""
    setup_cpu_seconds: float = 0.0
    """The part of it before the policy's first step: the training of the repair model."""
    tasks: dict[str, Accuracy] = {}
    """Accuracy by task."""


class RepairStage(Schema):
    """The repair model at one point of its training, measured on held-out drafts. All shares lie in 0..1."""

    name: str = ""
    """For example `start`, `SFT`, `RL`. Not in the file: the report sets it, and the seconds."""
    accuracy_at_1: Accuracy | None = None
    """Share of single repairs that are right."""
    feasible_share: Accuracy | None = None
    """Share of drafts with at least one right repair among the K sampled."""
    edit_cost: float | None = None
    """Mean C_edit of the right repairs, Eq. 2."""
    oracle_edit_cost: float | None = None
    """Mean C_edit of the oracle's repairs of the same drafts."""
    visual_survival: Accuracy | None = None
    """Share of right repairs whose draft cannot be repaired without the image."""
    audit_survival: Accuracy | None = None
    """Share of right repairs that the auditor finds clean."""
    cpu_seconds: float | None = None
    """Processor time of the training since the stage before."""
    gpu_seconds: float | None = None
    """The same of GPU time."""


class RepairFigures(Schema):
    """The repair model's stages, in order."""

    stages: list[RepairStage] = []
    oracle_edit_cost: float | None = None
    """Mean C_edit of the oracle's repairs of the same drafts: the lowest possible value."""


class FactorFigures(Schema):
    """The factors of the repair reward, Eq. 4: means over the steps of a run."""

    reward_without_factors: float | None = None
    """`R - λ C_edit`."""
    reward_with_factors: float | None = None
    """The same times the factors: the reward of Eq. 4."""
    visual_kept: Accuracy | None = None
    """Share of repairs with the factor `g_vis` = 1; None: switched off."""
    audit_kept: Accuracy | None = None
    """Share of repairs with the factor `g_audit` = 1; None: switched off."""
    right_without_image: Accuracy | None = None
    """Share of the blank-image repairs that were right."""
    audit: AuditStatistics | None = None
    """What the auditor found."""
    agreement: Agreement | None = None
    """Not in the file: the report computes it from reviews.jsonl in the run's folder."""


class Summary(Schema):
    """summary.json."""

    base_accuracy: Accuracy | None = None
    """The policy before any reinforcement learning."""
    before: RepairStage | None = None
    """A repair model before its training."""
    after: RepairStage | None = None
    """The same after it."""
    cpu_seconds: float | None = None
    """Processor seconds of the training."""
    gpu_seconds: float | None = None
    """GPU seconds of the training. None: the run held no GPU."""
    factors: FactorFigures | None = None
    """The factors of a `repair rl` run."""
    cost: dict[Clock, CostTerms] | None = None
    """Eq. 29 for one training step, on the clocks that the host can read."""
    method: str | None = None
    """The method of a training run. If it is set, the summary is also a `MethodResult`."""
    model: str | None = None
    """The model of an `evaluate` run, whose summary is a `MethodResult`, too."""
    examples: int | None = None
    """Repaired answers that a `repair sft` run was trained on."""


class CurvePoint(Schema):
    """A row of metrics.jsonl that has an accuracy."""

    step: Step = 0
    """Updates so far."""
    cpu_seconds: float | None = None
    """Processor time of the method so far: `setup_cpu_seconds` included, evaluations not counted."""
    gpu_seconds: float | None = None
    """GPU time so far, where GPUs are held."""
    wall_seconds: float | None = None
    """Wall time of the steps so far, where the host cannot measure processor time. The chart shows it only when no
    curve of the report has GPU or processor seconds."""
    accuracy: Accuracy
    """Needed. Held-out accuracy at this step."""
    interval: Interval | None = None
    """95 % interval of the accuracy."""


class RewardPoint(Schema):
    """Any row of metrics.jsonl."""

    step: Step = 0
    """Updates so far."""
    reward: float | None = None
    """Mean reward of the sampled answers."""


class ShownMetric(Schema):
    """A metric that has a range, of one run. The texts are those of `report.metrics`."""

    name: str
    text: str
    healthy: str
    remedy: str
    first: float
    """Mean over the first fifth of its steps."""
    last: float
    """Mean over the last fifth."""
    problem: Literal["below", "above"] | None
    """On which side of the range the last fifth lies."""


class ShownMethod(Schema):
    """A method in the plan of a bench."""

    kind: str
    """Needed. See `runs.plan`."""


class BenchPlan(Schema):
    """config.yaml of a bench; of other runs it has no methods."""

    methods: dict[str, ShownMethod] = {}


class BenchCell(Schema):
    """A row of results.jsonl."""

    hash: Annotated[str, Field(pattern="^[0-9a-zA-Z]+$")]
    """Needed, as all of these. It ends the name of the cell's folder."""
    method: str
    label: str
    accuracy: Accuracy
    settings: dict[str, Any]


class ShownAnswer(Schema):
    """One side of a pair, token by token. All lists have the length of `tokens`."""

    tokens: list[str]
    """Needed. Texts of the tokens with their spaces; joined, they are the answer."""
    mask: list[bool]
    """Needed. Whether each token takes part in an edit, Eq. 8."""
    weights: list[float] | None = None
    """The weights, if they differ from the mask (soft weights, steps)."""
    advantages: list[float] | None = None
    """The weighted advantages, Eqs. 20-21."""
    advantage: float | None = None
    """The answer's advantage without weights, which plain GRPO gives to every token."""
    errors: list[bool] | None = None
    """Whether each token is known to be wrong."""
    roots: list[bool] | None = None
    """The tokens of `errors` that do not follow from an earlier error."""
    reward: float | None = None
    """Its reward."""

    @model_validator(mode="after")
    def _equal_lengths(self) -> "ShownAnswer":
        for name in ("mask", "weights", "advantages", "errors", "roots"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.tokens):
                raise ValueError(f"{name} has {len(values)} entries for {len(self.tokens)} tokens: give one per token")
        return self


class Example(Schema):
    """A row of examples.jsonl."""

    id: str = ""
    """Of the question."""
    task: str = ""
    """Of the question."""
    question: str
    """Needed. Its text."""
    images: list[ImageURL] = []
    """Of the question: PNG, JPEG, WebP or GIF."""
    answer: str | None = None
    """The right answer."""
    reference: str | None = None
    """The right answer that the repair model saw."""
    wrong: ShownAnswer
    """Needed. The wrong answer."""
    repair: ShownAnswer = Field(validation_alias=AliasChoices("repair", "repaired"))
    """Needed. The repair. Files of earlier versions call it `repaired`."""
    edit_cost: float | None = None
    """The share of tokens that the repair changes, Eq. 2."""


class Curve(Schema):
    """A method's learning curve."""

    name: str
    points: list[CurvePoint]


class BenchmarkScore(Schema):
    """summary.json of a task of `evaluate MODEL TASK...`. Shares of 1."""

    task: str
    """Needed. The harness's name of the task."""
    model: str
    """Needed. A folder or a name on the hub."""
    benchmark: str | None = None
    """The benchmark whose own answer rule `score` goes by."""
    problems: int
    """Needed. Number of questions."""
    score: Accuracy | None = None
    """Share of right answers by this package's form of the benchmark's rule."""
    interval: Interval | None = None
    """95 % interval of `score`."""
    rule: str | None = None
    """The benchmark by whose rule `score` was graded."""
    unjudged: int = 0
    """Answers without a verdict, which do not count."""
    harness_metric: str | None = None
    """The name of the harness's own measure."""
    harness_value: float | None = None
    """The harness's own score, as it gives it."""
    harness_score: Accuracy | None = None
    """The same as a share; Null: the measure is not a share."""
    harness_interval: Interval | None = None
    """95 % interval of `harness_score`."""
    harness_left_out: str | None = None
    """Why the harness has no score of its own."""
    judge: str | None = None
    """The language model that the harness's own score asked."""
    cut_off: int = 0
    """Answers that reached the limit of tokens."""
    not_asked: int = 0
    """Questions that did not fit into the model's context, or whose images cannot be shown; they count as wrong."""

    @property
    def share(self) -> float | None:
        """The score that the tables show: by the benchmark's rule, or else the harness's own."""
        return self.score if self.score is not None else self.harness_score


class ReportData(Schema):
    """Everything the page shows."""

    title: str
    base_accuracy: float | None = None
    upper_bound: float | None = None
    """The same model with supervised training on the RL images' labels."""
    methods: dict[str, MethodResult] = {}
    curves: list[Curve] = []
    rewards: dict[str, list[tuple[int, float]]] = {}
    """Name of a run without such a curve -> steps, and the mean reward of the answers that were sampled there."""
    notes: list[str] = []
    """Why runs have no result on this page."""
    repair: RepairFigures | None = None
    factors: dict[str, FactorFigures] = {}
    costs: dict[str, dict[Clock, CostTerms]] = {}
    health: dict[str, list[ShownMetric]] = {}
    """Name of a run -> its metrics that have a range."""
    examples: list[Example] = []
    """Those of the runs, or of very many a part, evenly spread."""
    example_count: int = 0
    """Number of all examples of the runs."""
    benchmarks: dict[str, list[BenchmarkScore]] = {}
    """Name of a model -> its scores."""
    configs: dict[str, str] = {}
    """Name of a run -> its complete recipe, as YAML."""
    versions: dict[str, Any] = {}

    @property
    def clock(self) -> Clock:
        """The clock of the tables: `gpu` where a run held GPUs."""
        runs: list[MethodResult | RepairStage] = [*self.methods.values(), *(self.repair.stages if self.repair else ())]
        return "gpu" if any(run.gpu_seconds is not None for run in runs) else "cpu"
