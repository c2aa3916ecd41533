"""The recipe of `repair check`: a repair model, and the wrong answers on which it is measured."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from difference_feedback.runs.file_names import wrong_answers_file
from difference_feedback.runs.model_folder import local_path
from difference_feedback.runs.recipes import EvaluateRecipe, Questions, Recipe
from difference_feedback.runs.rewards import FINAL_ANSWER
from difference_feedback.runs.sections import (
    Audit,
    Data,
    EvaluationSettings,
    Judge,
    PolicyEndpoint,
    Repairs,
    Section,
    Tasks,
)
from difference_feedback.runs.value_types import PathOrName, PositiveInt, ProblemCount, Seconds, Share, Temperature

SIBLING = "sibling"
"""What `repair_model` may name besides a model and `EMBEDDED_REPAIRERS`: the closest right answer of the same group."""


class Sampling(Section):
    """How a policy's answers are sampled. Give the values of its training."""

    samples: Annotated[int, Field(ge=2, le=1024)] = 8
    """Answers to each question: the size of a group."""
    temperature: Annotated[Temperature, Field(ge=0.01)] = 1.0
    max_new_tokens: PositiveInt | None = None
    """Longest answer; by default 64 in the embedded world, 1,024 outside of it. A longer repair is refused, as in
    training."""
    batch_size: PositiveInt = 64
    """Answers at the same time."""
    endpoint: PolicyEndpoint | None = None
    """A vLLM server of the policy, which answers in place of a model in this process."""


class RepairCheckRecipe(Questions, Recipe):
    """How good a repair model is on a policy's wrong answers, and whether training with it is likely to pay."""

    changeable: ClassVar[tuple[str, ...]] = (*Recipe.changeable, "run", "base_seconds", "p_err")

    kind: Literal["repair-check"] = "repair-check"
    repair_model: PathOrName | None = None
    """Folder or hub name of the repair model; `policy` for the policy itself; `sibling` for the closest right answer of
    the same group; `reference` for the reference as the repair. The embedded world has `oracle` and `blind_rewriter` as
    well. A model behind a server stands in `repairs.endpoint`."""
    repairs: Repairs = Repairs()
    policy: PathOrName = "nano"
    """The model that will be trained: its wrong answers are repaired, and edits are counted in its tokens."""
    wrong_answers: PathOrName | None = None
    """A JSONL file of your policy's wrong answers, with `question`, `image`, `answer`, `draft` and `reference`, or a
    folder with one: of `keep_wrong_answers`, of `repair collect`, of `annotate`. By default the policy answers `data`
    here."""
    drafts: ProblemCount = 300
    """Number of wrong answers to repair. Of a file with more, so many are drawn."""
    sampling: Sampling = Sampling()
    num_repairs: Annotated[int, Field(ge=1, le=64)] = 2
    """K: repairs of each wrong answer. This and the next two as in the training: `trl.num_repairs`, ..."""
    max_edit_cost: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    min_probability: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    blank_image: bool = True
    """Also repair each wrong answer once with a black image in place of its own, and with its reference: do repairs
    need the image even so?"""
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    """Precision of the policy. The repair model has that of its file on a GPU, and float32 on the CPU."""
    attention: str | None = None
    """Attention implementation, by transformers' names: `sdpa`, `flash_attention_2`, ..."""
    system_prompt: str | None = None
    """The system message of every prompt: a text, or the path of a text file (.txt, .md)."""
    tasks: Tasks | None = None
    """Embedded tasks; by default all six."""
    judge: Judge | None = None
    """The language model that grades, with `reward: llm-judge`."""
    audit: Audit | None = None
    """An auditor that says which right repairs are clean. The embedded world knows without one."""
    run: PathOrName | None = None
    """Folder of a finished training run, GRPO or DF-GRPO: its C_base and p_err say what a step costs with repairs."""
    base_seconds: Annotated[Seconds, Field(ge=1e-9)] | None = None
    """C_base of Eq. 29 where there is no such run: wall seconds to sample one answer and to update on it."""
    p_err: Share | None = None
    """Share of wrong answers in the training. By default that of `run`, or of the answers that are sampled here."""

    @property
    def asking(self) -> EvaluateRecipe:
        """The policy as it answers the questions and is graded. Raises `ConfigError` as `wrong_answers_file`."""
        shared = {
            name: getattr(self, name) for name in (*Questions.model_fields, "seed", "dtype", "attention", "tasks")
        }
        shared |= {"model": self.policy, "judge": self.judge, "system_prompt": self.system_prompt}
        if self.wrong_answers is not None:
            file = wrong_answers_file(local_path(self.wrong_answers))
            shared |= {"data": Data(path=str(file)), "reward": self.reward or FINAL_ANSWER}
        settings = EvaluationSettings(max_new_tokens=self.longest)
        return EvaluateRecipe(evaluation=settings, **shared)

    @property
    def longest(self) -> int:
        """Tokens of the longest answer, and of the longest repair."""
        return self.sampling.max_new_tokens or (64 if self.is_embedded else 1024)

    @property
    def is_embedded(self) -> bool:
        """Whether the questions are those of the embedded world, whose truth is known."""
        return self.data is None and self.wrong_answers is None
