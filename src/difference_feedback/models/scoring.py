"""How probable answers are to a model that did not necessarily write them: one forward pass, no generation."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin

from difference_feedback.data.conversations import Conversation
from difference_feedback.method.masks import FloatArray
from difference_feedback.models.generate import prompt_inputs, render_prompts, unchanged, with_answers
from difference_feedback.models.images_once import images_once

_MOST_LOGITS = 2**29
"""Of a batch; in float32 they take 2 GB."""


def other_token(tokenizer: Any, other: Any) -> str | None:
    """A token of `tokenizer` whose id means another one, or none, in `other`; None where all are the same."""
    if tokenizer is other:
        return None
    ids = other.get_vocab()
    return next((token for token, i in tokenizer.get_vocab().items() if ids.get(token) != i), None)


def answer_logps(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    conversations: Sequence[Conversation],
    images: Sequence[Sequence[Image.Image]],
    answers: Sequence[Sequence[int]],
    *,
    temperature: float = 1.0,
    batch_size: int = 64,
    adapter_name: str | None = None,
) -> list[FloatArray]:
    """Log-probability of each token of each answer, `(T,)`, given the conversation and the tokens before it.

    They are those of the logits that `generate` would sample from, before any token is suppressed. They do not depend
    on the batch, but for rounding. The model is left as it was.

    Args:
        answers: token ids of the model's own tokenizer, without padding.
        temperature: divides the logits.
    """
    if not conversations:
        return []
    texts = render_prompts(processor, conversations, images)
    order = sorted((i for i, ids in enumerate(answers) if len(ids)), key=lambda i: (len(texts[i]), len(answers[i])))
    scores: list[FloatArray] = [np.zeros(0, np.float32)] * len(answers)
    vocabulary = model.config.get_text_config().vocab_size
    with unchanged(model, adapter_name), images_once(), torch.no_grad():
        for rows in _batches(order, [len(ids) for ids in answers], batch_size, _MOST_LOGITS // vocabulary):
            part = [texts[i] for i in rows], [images[i] for i in rows], [list(answers[i]) for i in rows]
            for i, logps in zip(rows, _score_batch(model, processor, *part, temperature), strict=True):
                scores[i] = logps
    return scores


def _batches(order: Sequence[int], lengths: Sequence[int], most_rows: int, most_tokens: int) -> Iterator[list[int]]:
    """`order` in parts of at most `most_rows`, padded to at most `most_tokens` answer tokens, and of at least one."""
    rows: list[int] = []
    for i in order:
        width = max(lengths[k] for k in [*rows, i])
        if rows and (len(rows) == most_rows or (len(rows) + 1) * width > most_tokens):
            yield rows
            rows = []
        rows.append(i)
    if rows:
        yield rows


def _score_batch(
    model: PreTrainedModel,
    processor: Any,
    prompts: list[str],
    images: list[Sequence[Image.Image]],
    answers: list[list[int]],
    temperature: float,
) -> list[FloatArray]:
    inputs = prompt_inputs(processor, prompts, images).to(model.device)
    inputs = with_answers(inputs, answers, processor.tokenizer.pad_token_id)
    width = max(map(len, answers))
    logits = model(**inputs, use_cache=False, logits_to_keep=width + 1).logits[:, -width - 1 : -1]
    logps = []
    for of_row, tokens in zip(logits, answers, strict=True):  # row by row: a copy in float32 of all would be large
        scaled = of_row[: len(tokens)].float() / temperature
        chosen = scaled.gather(1, torch.tensor(tokens, device=logits.device)[:, None]).squeeze(1)
        logps.append((chosen - scaled.logsumexp(-1)).cpu().numpy())
    return logps
