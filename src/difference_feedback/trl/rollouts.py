"""What a generation step sampled, on this rank and on all, and the repairs of its wrong answers. [DF, Eqs. 5, 11-13]"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from transformers.image_utils import load_image
from trl.chat_template_utils import parse_response

from difference_feedback.data.conversations import split_images
from difference_feedback.errors import DataError
from difference_feedback.method.groups import SkipReason
from difference_feedback.method.pairs import choose_references
from difference_feedback.method.repairs import Limits, Repair, Repairer, RepairRequest, ask, usable_repairs
from difference_feedback.method.settings import PairSettings
from difference_feedback.models.end_tokens import written_end
from difference_feedback.models.outside_text import special_steering_tokens
from difference_feedback.models.vision_tokens import suppressed, vision_token_ids


@dataclass(frozen=True)
class Rollouts:
    """`n` answers of this rank out of `N` of all ranks; row `i` here is row `offset + i` there."""

    examples: list[dict[str, Any]]
    """Rows of the data set."""
    prompts: list[list[dict[str, Any]]]
    """Chat conversations with the images inside."""
    texts: list[str]
    completion_ids: list[list[int]]
    """As sampled, the end-of-sequence token included when it was sampled."""
    rewards: npt.NDArray[np.float64]
    """`(N,)`, the weighted sum over the reward functions; NaN where one gave no number: unjudged."""
    offset: int

    @property
    def own_rewards(self) -> npt.NDArray[np.float64]:
        """`(n,)`"""
        return self.rewards[self.offset : self.offset + len(self.prompts)]


def total_rewards(rewards_per_func: torch.Tensor, reward_weights: torch.Tensor) -> npt.NDArray[np.float64]:
    """`(N, F)` rewards -> `(N,)` weighted sums. A row that is unjudged is NaN."""
    weights = reward_weights.to(rewards_per_func.device)
    totals = (rewards_per_func * weights).nansum(dim=1)
    totals[unjudged(rewards_per_func, weights)] = torch.nan
    return totals.double().cpu().numpy()


def unjudged(rewards_per_func: torch.Tensor, reward_weights: torch.Tensor) -> torch.Tensor:
    """`(N, F)` rewards -> `(N,)`, whether a function that decides gave no number. One with a weight of 0 decides
    nothing. A sum of the others is no verdict: the format alone would make every answer right while the judge is down.
    """
    missing, weights = torch.isnan(rewards_per_func), reward_weights.to(rewards_per_func.device)
    return (missing & (weights != 0)).any(dim=1) | missing.all(dim=1)


def half_judged(rewards_per_func: torch.Tensor, reward_weights: torch.Tensor, names: Sequence[str]) -> str | None:
    """What to say about a batch in which every answer has a number, and none has those of all functions that decide.

    None for other batches. Functions that each grade the rows of one task bring it about, and so does a judge's outage.
    """
    missing, decides = torch.isnan(rewards_per_func), (reward_weights != 0).tolist()
    if missing.all(dim=1).any() or not unjudged(rewards_per_func, reward_weights).all():
        return None
    silent = [name for name, none, by in zip(names, missing.any(dim=0).tolist(), decides, strict=True) if none and by]
    return (
        f"No answer of this batch is judged, so nothing is learned from it: each lacks a number from one of the reward "
        f"functions {', '.join(silent)}, which returned None. If these grade different tasks, let one function choose "
        "by the row's task, or return 0.0 where a function does not apply. If one is a judge, look at its server. "
        "This is said once; `unjudged` counts on."
    )


def annotated_answers(examples: Sequence[dict[str, Any]], column: str | None) -> list[str | None]:
    """The annotated answer of each row; None where there is none. Raises `DataError` when the column is missing."""
    if column is None:
        return [None] * len(examples)
    if examples and column not in examples[0]:
        raise DataError(f"answer_column={column!r} is no column of the data: choose one of {', '.join(examples[0])}.")
    return [None if example[column] is None else str(example[column]) for example in examples]


def references_of_all(
    rewards: npt.NDArray[np.float64],
    texts: Sequence[str],
    answers: Sequence[str | None],
    group_size: int,
    settings: PairSettings,
    rng: np.random.Generator,
) -> tuple[dict[int, str], Counter[SkipReason]]:
    """The references by row, and the number of prompts without one by reason, over all ranks' rows, `(N,)`.

    Every rank calls this with the same rows and an equal generator, so all ranks agree, and the choice does not depend
    on how rows are spread over ranks. A prompt has `group_size` rows.
    """
    references: dict[int, str] = {}
    skipped: Counter[SkipReason] = Counter()
    for start in range(0, len(rewards), group_size):
        group = slice(start, start + group_size)
        chosen = choose_references(rewards[group], texts[group], answers[start], settings, rng)
        references |= {start + i: text for i, text in chosen.texts.items()}
        if chosen.skipped is not None:
            skipped[chosen.skipped] += 1
    return references, skipped


def requests_of(rollouts: Rollouts, references: Mapping[int, str]) -> list[RepairRequest]:
    """What the repair model is asked for wrong answers (row -> reference), in their order."""
    requests = []
    for row, reference in references.items():
        prompt, images = split_images(rollouts.prompts[row])
        opened = [_opened(image) for image in images]
        requests.append(RepairRequest(prompt, opened, rollouts.completion_ids[row], reference))
    return requests


def _opened(image: Any) -> Image.Image:
    """An image of a prompt. The processor of the policy opens paths and addresses by itself, in the same way."""
    if not isinstance(image, Image.Image | str):
        raise DataError(f"field 'prompt': an image is a {type(image).__name__}; give an image of PIL, or a path.")
    return load_image(image) if isinstance(image, str) else image


def sample_repairs(
    repairer: Repairer, rollouts: Rollouts, references: Mapping[int, str], num_repairs: int, limits: Limits
) -> tuple[dict[int, list[Repair]], Counter[str]]:
    """`num_repairs` repairs of each wrong answer (row -> reference): the usable ones by row, others counted by reason.

    Raises `DataError` when the repairer does not answer every request, or not with repairs.
    """
    requests = requests_of(rollouts, references)
    with torch.no_grad():
        answers = ask(repairer, requests, num_repairs)
    usable: dict[int, list[Repair]] = {}
    refused: Counter[str] = Counter()
    for request, row, repairs in zip(requests, references, answers, strict=True):
        usable[row], reasons = usable_repairs(repairs, num_repairs, limits, request.draft_ids)
        refused += reasons
    return usable, refused


def completions_of(
    trainer: Any, batch: Mapping[str, torch.Tensor], rows: Sequence[int], token_ids: Sequence[list[int]]
) -> list[list[dict[str, Any]]]:
    """Repairs of `rows` of TRL's batch as reward functions get rollouts, which TRL parses if the tokenizer says how."""
    tokenizer = trainer._tokenizer
    if all(getattr(tokenizer, name, None) is None for name in ("response_template", "response_schema")):
        texts = trainer.processing_class.batch_decode(list(token_ids), skip_special_tokens=True)
        return [[{"role": "assistant", "content": text}] for text in texts]
    prompts = [batch["prompt_ids"][row][batch["prompt_mask"][row].bool()].tolist() for row in rows]
    return [[parse_response(tokenizer, ids, prefix=prompt)] for ids, prompt in zip(token_ids, prompts, strict=True)]


def keep_to_text(trainer: Any) -> Limits:
    """Keep a trainer's policy from sampling vision tokens; returns the limits for its repairs.

    A sampled vision token would no longer match the image features, and TRL suppresses only the image token.
    """
    vision = vision_token_ids(trainer.model.config, trainer._tokenizer)
    kwargs = trainer.args.generation_kwargs
    if vision and not trainer.use_vllm:  # `VLLMSampling` sees to vLLM
        never = suppressed(kwargs, vision)
        trainer.generation_kwargs["suppress_tokens"] = trainer.generation_config.suppress_tokens = never
    vocabulary = trainer.model.config.get_text_config().vocab_size
    longest = trainer.max_completion_length or sys.maxsize
    ends = frozenset({*trainer.eos_token_ids, written_end(trainer.processing_class)})
    steering = frozenset(special_steering_tokens(trainer._tokenizer).values())
    return Limits(vision, vocabulary, longest, ends, steering)
