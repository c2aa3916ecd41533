"""Supervised training on labelled problems: the base's warm start, and the upper bound that RL is compared with."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor, get_cosine_schedule_with_warmup

from difference_feedback.repair.prompts import repair_conversation
from difference_feedback.world import TASKS, ImageSplit, Problem, caption
from difference_feedback.world.mixture import stream_problems
from difference_feedback.world.nano import CAPTION_PROMPT


@dataclass(frozen=True)
class SupervisedExample:
    """A problem with the conversation put to the model and the answer that it is to learn."""

    problem: Problem
    conversation: list[dict[str, Any]]
    answer: str


def captions(split: ImageSplit, seed: int) -> Iterator[SupervisedExample]:
    """An endless stream of images to describe in full: what teaches perception fastest."""
    for problem in stream_problems(split, seed):
        problem = replace(problem, question=CAPTION_PROMPT)
        yield SupervisedExample(problem, problem.prompt, caption(problem))


def questions(split: ImageSplit, seed: int, tasks: Sequence[str] | None = None) -> Iterator[SupervisedExample]:
    """An endless stream of questions to answer, in a form drawn uniformly."""
    rng = np.random.default_rng([seed, 1])
    for problem in stream_problems(split, seed, tasks):
        forms = TASKS[problem.task].forms(problem.facts)
        yield SupervisedExample(problem, problem.prompt, forms[rng.integers(len(forms))].write())


def rewrites(split: ImageSplit, seed: int) -> Iterator[SupervisedExample]:
    """An endless stream of wrong drafts to rewrite, as any instruction-tuned VLM could; some without a reference."""
    rng = np.random.default_rng([seed, 2])
    for problem in stream_problems(split, seed + 1):
        forms = TASKS[problem.task].forms(problem.facts)
        form = forms[rng.integers(len(forms))]
        wrong = rng.random(len(form.readings)) < 0.3
        wrong[rng.integers(len(wrong))] = True
        misread = {
            slot.name: slot.misreadings[rng.integers(len(slot.misreadings))]
            for slot, is_wrong in zip(form.readings, wrong, strict=True)
            if is_wrong
        }
        reference = forms[rng.integers(len(forms))].write() if rng.random() < 0.8 else None
        yield SupervisedExample(
            problem, repair_conversation(problem.prompt, form.write(misread), reference), form.write()
        )


def collate(processor: Qwen2_5_VLProcessor, batch: Sequence[SupervisedExample]) -> dict[str, torch.Tensor]:
    """Model inputs with labels on the answers alone, end of sequence included."""
    tokenizer = processor.tokenizer
    prompts = [processor.apply_chat_template(e.conversation, add_generation_prompt=True, tokenize=False) for e in batch]
    answers = [e.answer + tokenizer.eos_token for e in batch]
    inputs = processor(
        text=[p + a for p, a in zip(prompts, answers, strict=True)],
        images=[list(e.problem.images) for e in batch],
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    lengths = torch.tensor([len(ids) for ids in tokenizer(answers)["input_ids"]])
    from_end = torch.arange(inputs["input_ids"].shape[1], 0, -1)
    is_answer = from_end[None, :] <= lengths[:, None]
    return {**inputs, "labels": inputs["input_ids"].masked_fill(~is_answer, -100)}


def in_batches(stream: Iterator[SupervisedExample], size: int) -> Iterator[list[SupervisedExample]]:
    """The stream, `size` examples at a time."""
    while batch := list(islice(stream, size)):
        yield batch


def train_supervised(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    batches: Iterator[list[SupervisedExample]],
    *,
    steps: int,
    learning_rate: float = 3e-3,
    on_step: Callable[[int, float], None] | None = None,
) -> None:
    """AdamW with a cosine schedule on cross-entropy of the answers; `on_step(step, loss)` follows each update."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = get_cosine_schedule_with_warmup(optimizer, min(100, steps // 10), steps)
    model.train()
    for step in range(1, steps + 1):
        inputs = collate(processor, next(batches))
        loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if on_step:
            on_step(step, loss.item())
    model.eval()
