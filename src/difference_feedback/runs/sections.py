"""What recipes are made of: evaluation, data, repairs, endpoints, and the gates of the repair reward."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
TaskName = Literal["digits-sum", "digits-max", "grid-lookup", "count", "chart", "order"]


class Section(BaseModel):
    """A part of a recipe: no key but its own, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Evaluation(Section):
    """Held-out accuracy: how many problems, how they are answered."""

    problems: PositiveInt = 300
    batch_size: PositiveInt = 100
    max_new_tokens: PositiveInt = 64
    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    """0 answers greedily."""
    every: Annotated[int, Field(ge=0)] = 0
    """Training steps between evaluations; 0 evaluates at the start and at the end alone."""
    curve_problems: PositiveInt | None = None
    """Of them, so many for the measurements before the last one; by default all."""
    split: Literal["test", "repair"] = "test"
    """Images of the embedded problems: those that nothing was trained on, or, to choose settings by, those of the hand
    repairs, which no policy is trained on either."""
    seed: int = 9000
    """Seed of the held-out problems, apart from the run's own so that all runs meet the same ones."""

    @property
    def generation(self) -> dict[str, Any]:
        """How `evaluation.evaluate` is to generate the answers."""
        return {"batch_size": self.batch_size, "max_new_tokens": self.max_new_tokens, "temperature": self.temperature}


class Data(Section):
    """Questions on images from a JSONL file or from a `datasets` data set. See `tasks.dataset`."""

    path: str
    """A JSONL file, a folder written by `Dataset.save_to_disk`, or the name of a hub data set."""
    split: str = "train"
    name: str | None = None
    """Configuration of a hub data set."""
    columns: dict[Literal["id", "question", "image", "answer", "options"], str] = {}
    """Our field -> the data set's column, where the names differ."""
    instruction: str = "Put the final answer in \\boxed{}."
    """Added to every question, so that the answer can be found."""
    limit: PositiveInt | None = None
    min_side: PositiveInt = 28
    max_pixels: PositiveInt = 1_003_520
    """Larger images are scaled down, their proportions kept. 1280 patches of 28 x 28, Qwen2.5-VL's customary limit."""


class Endpoint(Section):
    """A chat model behind an OpenAI-compatible server: vLLM, SGLang, or a vendor's."""

    url: str
    """Base URL with the version, for example `http://127.0.0.1:8000/v1`."""
    model: str
    """The model's name on that server."""
    api_key_env: str | None = None
    """Environment variable that holds the key. None sends no key: a key goes only where it was meant to go."""
    concurrency: PositiveInt = 8
    """Requests under way at a time."""
    timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds for one request."""
    retries: Annotated[int, Field(ge=0)] = 4
    """Further attempts after 429, 5xx, a time-out or a broken connection, with growing pauses."""
    max_requests: PositiveInt | None = None
    """Budget of a run: requests sent, retries included. None: no limit."""
    max_tokens: PositiveInt = 512
    """Longest answer."""
    max_pixels: PositiveInt = 1_003_520
    """Larger images are scaled down before they are sent."""
    cache: str | None = None
    """Folder of answers already given, shared by runs. None: nothing is kept."""


class Repairs(Section):
    """How the repair model is asked for repairs."""

    via: Literal["local", "endpoint", "vllm"] = "local"
    """`local`: `repair_model` in this process. `endpoint`: any chat server, whose texts are projected onto the policy's
    tokens. `vllm`: a vLLM server of a model with the policy's tokenizer, which gives token ids."""
    endpoint: Endpoint | None = None
    """The server, unless `local`."""
    style: Literal["nano", "full"] | None = None
    """Prompt: `full` for instruction-tuned models, `nano` for the embedded world's. By default that of its training."""
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 0.7
    batch_size: PositiveInt = 64


class Lora(Section):
    """Train a LoRA adapter in place of all weights. [arXiv 2106.09685]"""

    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    """The adapter's output is scaled by `alpha / rank`."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    targets: str | list[str] = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    """Layers, as PEFT's `target_modules`: ends of their names, or a regular expression of the whole name. By default
    the linear layers of the language model, and none of the vision tower."""


class Judge(Section):
    """A language model that grades open answers."""

    endpoint: Endpoint
    votes: PositiveInt = 1
    """Asked for each answer; more than half of them must agree, or the answer is unjudged."""
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = 0.0


Reward = Literal["embedded", "final-answer", "llm-judge"]
"""Who grades: the embedded checker, the final-answer rule, or a language model (which needs `judge`)."""


ObjectiveName = Literal["grpo", "gspo", "dapo", "dr_grpo", "sapo", "cispo", "ppo"]
"""Of the policy's update, with the clipping range of its own paper unless `trl` sets one. PPO needs the verl host."""


class VisualFactor(Section):
    """The blank-image test of the repair reward. [DF, Eq. 3, "C1"]"""

    enabled: bool = True
    images: Annotated[list[Literal["blank", "noise"]], Field(min_length=1)] = ["blank", "noise"]
    """What stands in for the image; the gate closes when any of the repairs made from them is right."""


class Audit(Section):
    """The auditor of repairs. [DF, Eq. 4]"""

    enabled: bool = True
    auditor: Literal["embedded", "endpoint"] = "embedded"
    """`embedded` goes by the embedded world's known truth; `endpoint` asks a vision-language model."""
    endpoint: Endpoint | None = None
    rate: Share = 1.0
    """Share of the right repairs that is audited."""
    when_down: Literal["open", "stop"] = "open"
    """When the auditor cannot be reached: go on with the gate open and count it, or stop the run."""
    seconds: Annotated[float, Field(gt=0)] = 300.0
    """Longest time for the audits of one batch; what is not judged by then is an outage."""


class TextOnly(Section):
    """Filter of problems that the policy solves from text alone: they cannot teach to look."""

    samples: Annotated[int, Field(ge=0)] = 4
    """Answers to each problem without its image; 0 switches the filter off."""
    threshold: Share = 0.75
    """A problem is removed when at least this share of them is right."""
