"""The parts of recipes: evaluation, data, repairs, endpoints, and the factors of the repair reward."""

import math
import shlex
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from difference_feedback.runs.value_types import (
    BaseURL,
    Concurrency,
    GPUs,
    ModuleNames,
    NonNegativeInt,
    PathOrName,
    PositiveInt,
    ProblemCount,
    Seconds,
    Seed,
    Share,
    Temperature,
    VariableName,
)

TaskName = Literal["digits-sum", "digits-max", "grid-lookup", "count", "chart", "order"]
Tasks = Annotated[list[TaskName], Field(min_length=1)]


class Section(BaseModel):
    """A part of a recipe. Unknown keys and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Serve(Section):
    """A vLLM server that the run starts on this machine, and stops at its end. See `runs.serving`."""

    command: Annotated[
        list[str],
        BeforeValidator(lambda value: shlex.split(value) if isinstance(value, str) else value),
        Field(min_length=1),
    ] = ["vllm", "serve"]
    """What starts it; model, address and options are added. vLLM pins its own torch, so it often has an environment of
    its own: `/opt/vllm/bin/vllm serve`."""
    model: PathOrName | None = None
    """The folder or hub name of what is served; by default the endpoint's `model`. It may be an adapter's folder."""
    gpus: GPUs | None = None
    """The GPUs that the server sees, as in CUDA_VISIBLE_DEVICES: `"6,7"`. By default those of the run."""
    options: dict[str, Any] = {}
    """vLLM's own, by their names: `{tensor-parallel-size: 2, quantization: awq}`."""
    startup_seconds: Seconds = 1800.0
    """Longest time until it answers."""


class RepairServe(Serve):
    """A vLLM server of a repair model, which copies most of a repair from the draft in its prompt."""

    speculation: Annotated[int, Field(ge=0, le=64)] | None = None
    """Tokens that vLLM proposes at a time from the prompt, where it finds the last ones again (n-gram speculation). The
    model accepts or refuses them, so repairs stay what they are, in fewer steps. 0: none. By default 8 on a GPU, and 0
    elsewhere, since vLLM's kernels for the CPU sample wrongly then (vllm#55005)."""


class Endpoint(Section):
    """A chat model behind an OpenAI-compatible server: vLLM, SGLang, or a vendor's."""

    url: BaseURL
    """Base URL with the version, for example `http://127.0.0.1:8000/v1`."""
    model: Annotated[str, Field(min_length=1)]
    """The model's name on that server."""
    api_key_env: VariableName | None = None
    """Environment variable that holds the key. None sends no key, so that a key never goes to another server."""
    concurrency: Concurrency = 8
    """Requests at the same time."""
    timeout: Seconds = 60.0
    """Seconds for one request."""
    retries: Annotated[int, Field(ge=0, le=100)] = 4
    """Further attempts after 429, 5xx, a time-out or a broken connection, with growing pauses."""
    max_requests: PositiveInt | None = None
    """Requests that one start of a command may send, retries included; its ranks share them. None: no limit."""
    max_tokens: PositiveInt = 512
    """Longest answer."""
    max_pixels: PositiveInt = 1_003_520
    """Larger images are scaled down before they are sent."""
    cache: PathOrName | None = None
    """Folder in which answers are kept, shared by runs. None: no answer is kept."""
    serve: Serve | None = None
    """Start this server; `url` then has a port of this machine. None: it runs already."""
    billed_gpus: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """GPUs that a server which runs already holds for this run. They count in its GPU time."""


class PolicyEndpoint(Endpoint):
    """A vLLM server of a recipe's own model."""

    model: str = ""
    """Its name on the server; by default as the recipe names the model."""
    concurrency: Concurrency = 64
    timeout: Seconds = 600.0


class RepairEndpoint(Endpoint):
    """A server of a repair model."""

    serve: RepairServe | None = None


class EvaluationSettings(Section):
    """Held-out accuracy: how many problems, how they are answered."""

    problems: ProblemCount | None = None
    """How many held-out questions. Of your own data they are drawn at random by `seed`, in the file's order. By default
    all of your own, and 300 embedded ones."""
    batch_size: PositiveInt = 100
    max_new_tokens: PositiveInt = 64
    temperature: Temperature = 0.0
    """0 answers greedily."""
    every: NonNegativeInt = 0
    """Training steps between evaluations; 0 evaluates only at the start and at the end."""
    curve_problems: PositiveInt | None = None
    """Number of problems for the measurements before the last one; by default all. Drawn as `problems` are."""
    split: Literal["test", "repair"] = "test"
    """Images of the embedded problems. `test`: nothing is trained on them. `repair`: only the repair model is, so that
    settings of the policy can be chosen by them."""
    seed: Seed = 9000
    """Seed of the held-out problems. It is not the run's own, so that all runs answer the same problems."""
    endpoint: PolicyEndpoint | None = None
    """A vLLM server that answers in place of a model in this process. `evaluate` asks it for the model's answers, the
    training of a repair model for the policy's. A policy in training is always asked in this process."""

    @property
    def embedded_problems(self) -> int:
        """Number of held-out problems of the embedded world."""
        return self.problems or 300

    @property
    def generation(self) -> dict[str, Any]:
        """How `policy.evaluation.evaluate` generates the answers."""
        return {"batch_size": self.batch_size, "max_new_tokens": self.max_new_tokens, "temperature": self.temperature}


FormName = Literal[
    "auto",
    "plain",
    "easyr1",
    "verl",
    "mmpr-tiny",
    "conversations",
    "ms-swift",
    "preference",
    "clevr",
    "geometry3k",
    "virl39k",
    "mmk12",
    "mathvision",
    "mathvista",
    "mathverse",
    "mmstar",
    "mmmu",
    "mmmu-pro",
    "ai2d",
    "scienceqa",
    "vlmevalkit",
]
DataField = Literal[
    "id", "question", "image", "video", "answer", "options", "messages", "reference", "context", "system"
]


class Data(Section):
    """Questions from a file or a data set: docs/your_data.md. See `data.dataset`."""

    path: PathOrName
    """A file of rows (JSONL, JSON, CSV, TSV, parquet), a folder with one or with shards of parquet, a folder written by
    `Dataset.save_to_disk`, or the name of a hub data set."""
    split: Annotated[str, Field(min_length=1)] = "train"
    name: str | None = None
    """Configuration of a hub data set."""
    form: FormName = "auto"
    """The form of the rows. By default their columns tell it; `difference-feedback data check` says which."""
    columns: dict[DataField, str | list[str]] = {}
    """Field here -> the data set's column, where the form does not know it. Fields: id, question, image, video, answer,
    options, messages, reference, context, system. Dots lead into nested columns: `{answer: reward_model.ground_truth}`.
    Several columns of images are a list, or a pattern: `image_*`."""
    answers_from: Literal[0, 1] | None = None
    """The number of the first option, where all answers are indices of options. By default the rows tell it."""
    image_root: PathOrName | None = None
    """The folder that paths of images and videos are relative to. By default that of the file."""
    video_frames: Annotated[int, Field(gt=0, le=10_000)] = 8
    """Frames taken of each video, evenly spread from the first to the last."""
    instruction: str = "Put the final answer in \\boxed{}."
    """Added to every question, so that the answer can be found. A recipe's `format_prompt` takes its place."""
    limit: PositiveInt | None = None
    min_side: PositiveInt = 28
    max_pixels: PositiveInt = 1_003_520
    """Larger images, and frames of videos, are scaled down in proportion. Default: 1280 patches of 28 x 28, as usual
    for Qwen2.5-VL."""


class Repairs(Section):
    """Where repairs come from, and how they are sampled."""

    via: Literal["local", "endpoint", "vllm"] = "local"
    """`local`: `repair_model` in this process. `endpoint`: any chat server, whose texts are projected onto the policy's
    tokens. `vllm`: a vLLM server of a model with the policy's tokenizer, which gives token ids."""
    endpoint: RepairEndpoint | None = None
    """The server, unless `local`."""
    style: Literal["nano", "full"] | None = None
    """Prompt: `full` for instruction-tuned models, `nano` for the nano model. By default that of its training."""
    temperature: Annotated[Temperature, Field(le=2.0)] = 0.7
    batch_size: PositiveInt = 64
    speculate: bool | None = None
    """Whether a model in this process writes several tokens of a repair in one pass, by speculation from the draft. By
    default where that is faster. The law of the repairs is the same."""
    oracle_right: Share = 1.0
    """In the embedded world, the share of the oracle's repairs that end right. It makes the oracle worse, to measure
    how good a repair model must be."""
    oracle_clean: Share = 1.0
    """The share, among these, of the oracle's repairs that state no wrong value."""
    placement: Literal["pool", "own", "cpu"] | None = None
    """On verl, where the copies of `repair_model` are: on the policy's GPUs (`pool`, the default), on GPUs of their
    own, or on the CPU."""
    replicas: PositiveInt | None = None
    """On verl, the number of copies. By default one on each of the policy's GPUs, or else one."""


class Lora(Section):
    """Train a LoRA adapter in place of all weights. [arXiv 2106.09685]"""

    rank: Annotated[int, Field(gt=0, le=8192)] = 16
    alpha: PositiveInt = 32
    """The adapter's output is scaled by `alpha / rank`."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    targets: ModuleNames | None = None
    """Layers, as PEFT's `target_modules`: ends of their names, or a regular expression of the whole name. By default
    the linear layers of the language model, and none of the vision tower."""


class Judge(Section):
    """A language model that grades open answers."""

    endpoint: Endpoint
    votes: Annotated[int, Field(gt=0, le=1000)] = 1
    """Votes for each answer; more than half must agree, or the answer is unjudged."""
    temperature: Annotated[Temperature, Field(le=2.0)] = 0.0
    when_down: Literal["open", "stop"] = "open"
    """When not one answer of a batch could be judged: go on, with all of them unjudged, or stop the run."""


def _as_reward(value: Any) -> Any:
    """A name, or a mapping of names to weights. pydantic alone would report a mistake once for each of the two."""
    if isinstance(value, str) and value.strip():
        return value
    if not isinstance(value, dict) or not value:
        raise ValueError("a name, or a mapping of names to weights")
    for name, weight in value.items():
        if not isinstance(name, str) or isinstance(weight, bool) or not isinstance(weight, int | float):
            raise ValueError(f"a number as the weight of {name!r}")
        if not math.isfinite(weight) or abs(weight) > 1e6:
            raise ValueError(f"a number from -1e6 to 1e6 as the weight of {name!r}")
    return value


Reward = Annotated[str | dict[str, float], BeforeValidator(_as_reward)]
"""What grades answers: `embedded` (the embedded checker), `final-answer` (the rule for your own data), `llm-judge` (a
language model, which needs `judge`), a benchmark's own answer rule (`mathvista`, `mmmu`, `mmstar`, `mathverse`,
`mathvision`, `ai2d`), or a function of your own, `path/to/file.py:function`, as TRL calls it. Several with weights are
a mapping, `{my_reward.py:accuracy: 1.0, my_reward.py:format: 0.2}`; the reward is their sum."""


ObjectiveName = Literal["grpo", "gspo", "dapo", "dr_grpo", "sapo", "cispo", "ppo"]
"""Objective of an update. It clips as its own paper says unless `trl` sets a range. PPO needs the verl host."""


class VisualFactor(Section):
    """The blank-image test of the repair reward. [DF, Eq. 3, "C1"]"""

    enabled: bool = True
    images: Annotated[list[Literal["blank", "noise"]], Field(min_length=1)] = ["blank", "noise"]
    """What replaces the image. The factor is 0 when any of the repairs made without the image is right."""


class Audit(Section):
    """The auditor of repairs. [DF, Eq. 4]"""

    enabled: bool = True
    auditor: Literal["embedded", "endpoint"] = "embedded"
    """`embedded` uses the known truth of the embedded world; `endpoint` asks a vision-language model."""
    endpoint: Endpoint | None = None
    rate: Share = 1.0
    """Share of the right repairs that are audited."""
    when_down: Literal["open", "stop"] = "open"
    """If the auditor cannot be reached: go on with a factor of 1 and count the case, or stop the run."""
    seconds: Seconds = 300.0
    """Longest time for the audits of one batch. Repairs that are not judged by then count as outages."""


class TextOnly(Section):
    """Filter of problems that the policy solves from the text alone. They do not teach it to look at the image."""

    samples: Annotated[int, Field(ge=0, le=10_000)] = 4
    """Answers sampled for each problem without its image; 0 switches the filter off."""
    threshold: Share = 0.75
    """A problem is removed when at least this share of them is right."""
