"""Leave out what does not fit into a model's context, and say so, instead of running out of memory hours later."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.models.processor import context_of
from difference_feedback.runs.first_rank import is_first_rank
from difference_feedback.runs.jsonl import print_problems
from difference_feedback.runs.terminal import Terminal


@dataclass(frozen=True)
class Room:
    """The longest prompt, in tokens. None: no limit is known."""

    tokens: int | None
    remedy: str
    """What sets the limit, and what to do about a longer prompt."""


def room_for_prompts(model: str, answer: int, longest: int | None, key: str = "max_prompt_length") -> Room:
    """What a model's context holds beside an answer of `answer` tokens, and no more than `longest`, set by `key`.

    Raises `ConfigError` where the context does not even hold the answer.
    """
    context = context_of(model)
    if context is not None and context <= answer:
        raise ConfigError(
            f"answers of {answer} tokens leave no room in the context of {model}, {context}: shorten them."
        )
    if longest is not None and (context is None or longest <= context - answer):
        return Room(longest, f"{key} is {longest}: raise it, or use smaller images (max_pixels)")
    if context is None:
        return Room(None, "")
    if answer == 0:
        return Room(context, f"the context of {model}: use smaller images (max_pixels), or shorter texts")
    return Room(
        context - answer,
        f"the context of {model} is {context} and the answer takes up to {answer}: use smaller images (max_pixels)",
    )


def fitting(
    source: str, lengths: Sequence[int], places: Sequence[str], room: Room, console: Console | None = None
) -> list[int]:
    """Which of the prompts fit. The others are listed by their `places`, and all lengths are summed up.

    Raises `DataError` when none fits.
    """
    console = console or Terminal(stderr=True, emoji=False, soft_wrap=True, quiet=not is_first_rank())

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    median, most = (int(value) for value in np.quantile(lengths, (0.5, 0.95), method="higher"))
    say(f"{source}: prompts have {median} tokens in the median, 95 % at most {most}, the longest {max(lengths)}.")
    if room.tokens is None:
        return list(range(len(lengths)))
    kept = [i for i, length in enumerate(lengths) if length <= room.tokens]
    if len(kept) == len(lengths):
        return kept
    limit = room.tokens
    too_long = [f"{place}: {length} tokens" for place, length in zip(places, lengths, strict=True) if length > limit]
    summary = f"{len(too_long)} of {len(lengths)} prompts are longer than {room.tokens} tokens ({room.remedy})"
    if not kept:
        raise DataError(f"{source}: {summary}. The shortest has {min(lengths)} tokens.")
    say(f"{source}: {summary}. They are left out:")
    print_problems(too_long, console, shown=30)
    return kept
