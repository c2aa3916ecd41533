"""What the report reads: the schema of summary.json, metrics.jsonl and examples.jsonl in run folders.

A folder given to the report counts with the run folders directly below it; that of a bench or demo with its cells and
the repair models that they share. Every field but those marked as needed may be left out; the page then leaves out the
part that would show it. Keys that the schema does not name are ignored.

    summary.json     `Summary`: a training run's holds `method`, `accuracy`, ... and `cost`
    results.jsonl    a bench's rows, see `bench.results`: labels, start and upper bound
    metrics.jsonl    rows with `accuracy` and a clock are points of the learning curve (`CurvePoint`)
    examples.jsonl   one `Example` a row: a wrong answer, its repair, masks, advantages
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from difference_feedback.method.cost import CostTerms

DATA_URL = re.compile(r"data:image/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+=*")


def _embedded(url: str) -> str:
    if not DATA_URL.fullmatch(url):
        raise ValueError(f"must be a data URL of a PNG, JPEG, WebP or GIF image, not {url[:40]!r}")
    return url


Accuracy = Annotated[float, Field(ge=0.0, le=1.0)]
Interval = tuple[float, float]
Clock = Literal["wall", "cpu"]
ImageURL = Annotated[str, AfterValidator(_embedded)]


class Schema(BaseModel):
    """A part of the files; unknown keys are ignored, since runs write more than the report shows."""

    model_config = ConfigDict(extra="ignore")


class MethodResult(Schema):
    """What one training method reached."""

    accuracy: Accuracy
    """Needed. Held-out, at the end."""
    interval: Interval | None = None
    """95 % interval of the accuracy."""
    problems: int | None = None
    """Held-out problems it was measured on."""
    steps: int | None = None
    """Updates of the policy."""
    cpu_seconds: float | None = None
    """All processor time billed to the method, `setup_cpu_seconds` included; null where the host cannot measure it."""
    wall_seconds: float | None = None
    """Wall time of the training steps, evaluations left out, where the host cannot measure processor time."""
    setup_cpu_seconds: float = 0.0
    """Its part spent before the policy's first step: the repair model's training."""
    tasks: dict[str, Accuracy] = {}
    """Accuracy by task."""


class RepairStage(Schema):
    """The repair model at one point of its training, on drafts it was not trained on. All shares lie in 0..1."""

    name: str
    """Needed. For example `start`, `SFT`, `RL`."""
    accuracy: Accuracy | None = None
    """Share of single repairs that are right."""
    feasible: Accuracy | None = None
    """Share of drafts with at least one right repair among the K sampled."""
    edit_cost: float | None = None
    """Mean C_edit of the right repairs, Eq. 2."""
    visual_survival: Accuracy | None = None
    """Share of right repairs that could not be made without the image."""
    audit_survival: Accuracy | None = None
    """Share of right repairs that the auditor finds clean."""
    cpu_seconds: float | None = None
    """Processor time of the training that led here from the stage before."""


class RepairFigures(Schema):
    """The repair model's stages, in order."""

    stages: list[RepairStage] = []
    oracle_edit_cost: float | None = None
    """Mean C_edit of the oracle's own repairs of the same drafts: the least that is possible."""


class AuditFigures(Schema):
    """What the auditor of a repair model's training found, over the distinct right repairs that it judged."""

    judged: int
    """Needed."""
    outages: int = 0
    """Repairs that it could not be asked about."""
    hits: dict[str, int] = {}
    """By failure mode."""
    hit_rate: Accuracy | None = None
    hit_rate_interval: Interval | None = None


class AgreementFigures(Schema):
    """Auditor and human reviewers on the same repairs."""

    n: int
    """Needed."""
    raw: Accuracy
    """Needed. Share of equal verdicts."""
    raw_interval: Interval
    kappa: float | None = None
    """Cohen's; None where it is not defined."""
    kappa_interval: Interval | None = None


class FactorFigures(Schema):
    """The factors of the repair reward over a run, Eq. 4: means over its steps."""

    reward_without_factors: float | None = None
    reward_with_factors: float | None = None
    visual_kept: Accuracy | None = None
    """Share of repairs whose `g_vis` was open; None: switched off."""
    audit_kept: Accuracy | None = None
    """Share of repairs whose `g_audit` was open; None: switched off."""
    right_without_image: Accuracy | None = None
    """Share of the blank-image repairs that were right."""
    audit: AuditFigures | None = None
    agreement: AgreementFigures | None = None
    """Found by the report from reviews.jsonl in the run's folder."""


class RepairQuality(Schema):
    """The repair model as a `repair sft` or `repair rl` run measured it."""

    accuracy_at_1: Accuracy | None = None
    feasible_share: Accuracy | None = None
    edit_cost: float | None = None
    oracle_edit_cost: float | None = None
    visual_survival: Accuracy | None = None
    audit_survival: Accuracy | None = None

    def stage(self, name: str, cpu_seconds: float | None = None) -> RepairStage:
        return RepairStage(
            name=name,
            accuracy=self.accuracy_at_1,
            feasible=self.feasible_share,
            edit_cost=self.edit_cost,
            visual_survival=self.visual_survival,
            audit_survival=self.audit_survival,
            cpu_seconds=cpu_seconds,
        )


class Summary(Schema):
    """summary.json."""

    base_accuracy: Accuracy | None = None
    """The policy before any reinforcement learning."""
    before: RepairQuality | None = None
    after: RepairQuality | None = None
    cpu_seconds: float | None = None
    factors: FactorFigures | None = None
    """A `repair rl` run's."""
    cost: dict[Clock, CostTerms] | None = None
    """Eq. 29 for one training step, on the clocks that the host can read."""
    method: str | None = None
    """A training run's own method; with it the summary is a `MethodResult` as well."""


class CurvePoint(Schema):
    """A row of metrics.jsonl that has an accuracy."""

    step: int = 0
    cpu_seconds: float | None = None
    """Processor time billed to the method so far: `setup_cpu_seconds` included, evaluations left out."""
    wall_seconds: float | None = None
    """Wall time of the steps so far, where the host cannot measure processor time. The chart shows it only where no
    curve of the report has processor seconds."""
    accuracy: Accuracy
    interval: Interval | None = None


class Side(Schema):
    """One side of a pair, token by token; all lists have the length of `tokens`."""

    tokens: list[str]
    """Needed. Texts of the tokens with their own spaces, so that joined they are the answer."""
    mask: list[bool]
    """Needed. Tokens that take part in an edit, Eq. 8."""
    weights: list[float] | None = None
    """The weights, where they are not the mask itself (soft weights, steps)."""
    advantages: list[float] | None = None
    """Gated advantages, Eqs. 20-21."""
    advantage: float | None = None
    """The answer's advantage before the weights, which plain GRPO would give to every token."""
    errors: list[bool] | None = None
    """Tokens that are known to be in error."""
    roots: list[bool] | None = None
    """Those of `errors` that do not follow from an earlier one."""
    reward: float | None = None

    @model_validator(mode="after")
    def _equal_lengths(self) -> "Side":
        for name in ("mask", "weights", "advantages", "errors", "roots"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.tokens):
                raise ValueError(f"{name} has {len(values)} entries for {len(self.tokens)} tokens")
        return self


class Example(Schema):
    """A row of examples.jsonl."""

    id: str = ""
    task: str = ""
    question: str
    """Needed."""
    images: list[ImageURL] = []
    """Data URLs."""
    answer: str | None = None
    """The right answer."""
    reference: str | None = None
    """The text that the repair model was shown as correct."""
    wrong: Side
    """Needed."""
    repaired: Side
    """Needed."""
    edit_cost: float | None = None


class Curve(Schema):
    """A method's learning curve."""

    name: str
    points: list[CurvePoint]


class ReportData(Schema):
    """Everything the page shows."""

    title: str
    base_accuracy: float | None = None
    upper_bound: float | None = None
    """The same model with supervised training on the RL images' labels."""
    methods: dict[str, MethodResult] = {}
    curves: list[Curve] = []
    repair: RepairFigures | None = None
    factors: dict[str, FactorFigures] = {}
    costs: dict[str, dict[Clock, CostTerms]] = {}
    examples: list[Example] = []
    configs: dict[str, str] = {}
    """Name of a run -> its resolved recipe, as YAML."""
    versions: dict[str, Any] = {}
