"""The six embedded tasks as one mixture: problems, grading, and the rows that trainers read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import Any, cast

import numpy as np
from datasets import Dataset

from difference_feedback.data.conversations import texts_of
from difference_feedback.errors import ConfigError
from difference_feedback.world.chart import Chart
from difference_feedback.world.count import Count
from difference_feedback.world.digits import DigitsMax, DigitsSum, GridLookup, Order
from difference_feedback.world.forms import ErrorSpan, Form
from difference_feedback.world.problem import SPLITS, ImageSplit, Problem
from difference_feedback.world.task import Task

TASKS: dict[str, Task] = {
    task.name: task for task in (DigitsSum(), DigitsMax(), GridLookup(), Count(), Chart(), Order())
}


def sample_problems(split: ImageSplit, n: int, seed: int, tasks: Sequence[str] | None = None) -> list[Problem]:
    """Draw `n` problems from the tasks in turn (all six by default); the same arguments give the same problems."""
    return list(islice(stream_problems(split, seed, tasks), n))


def stream_problems(split: ImageSplit, seed: int, tasks: Sequence[str] | None = None) -> Iterator[Problem]:
    """The problems of `sample_problems`, without an end.

    Raises `ConfigError` for an unknown task or split.
    """
    names = list(tasks or TASKS)
    if unknown := set(names) - set(TASKS):
        raise ConfigError(f"tasks: unknown {', '.join(sorted(unknown))}; choose from {', '.join(TASKS)}")
    if split not in SPLITS:
        raise ConfigError(f"split: there is no split {split!r}; choose from {', '.join(SPLITS)}")
    rng = np.random.default_rng([SPLITS.index(split), seed])
    for name in cycle(names):
        yield TASKS[name].sample(split, rng)


def is_correct(problem: Problem, response: str) -> bool:
    """Whether the final answer, the words after the last `answer`, is right. The steps before it do not matter."""
    return final_answer(response) == problem.answer.split()


def final_answer(response: str) -> list[str]:
    """The words after the last `answer`; an empty list when the response lacks that word."""
    _, separator, final = response.rpartition("answer")
    return final.split() if separator else []


def correct_answers(problem: Problem) -> list[str]:
    """The right answer in every surface form."""
    return list(dict.fromkeys(form.write() for form in forms_of(problem)))


def forms_of(problem: Problem) -> list[Form]:
    """The ways to write the right answer."""
    return TASKS[problem.task].forms(problem.facts)


def caption(problem: Problem) -> str:
    """What the problem's image shows, in full."""
    return TASKS[problem.task].caption(problem.facts)


def error_spans(problem: Problem, response: str) -> list[ErrorSpan] | None:
    """The wrong values in a response, in reading order; None when the response has no known form."""
    by_form = [form.error_spans(response.strip()) for form in forms_of(problem)]
    return min((spans for spans in by_form if spans is not None), key=len, default=None)


def unseen_forms(problem: Problem) -> list[Form]:
    """The forms of the problem's answers without the image: a reading's value is the name of the place that is read."""
    task = TASKS[problem.task]
    return task.forms(task.unseen(problem.facts))


def to_dataset(problems: Sequence[Problem]) -> Dataset:
    """Rows as TRL's trainers read them: `prompt` (chat), `images` (PIL), and the columns that the reward needs."""
    rows = [{"prompt": p.prompt, "images": list(p.images), **grader_columns(p)} for p in problems]
    return Dataset.from_list(rows)


def grader_columns(problem: Problem) -> dict[str, str]:
    """The columns of a row from which `from_row` makes the problem again, beside its prompt and images."""
    facts = json.dumps(problem.facts)
    return {"answer": problem.answer, "task": problem.task, "split": problem.split, "facts": facts}


def from_row(row: Mapping[str, Any]) -> Problem:
    """The problem behind a row of `to_dataset`."""
    question = row["prompt"][-1]["content"][-1]["text"]
    return Problem(
        row["task"],
        cast(ImageSplit, row["split"]),
        question,
        tuple(row["images"]),
        row["answer"],
        json.loads(row["facts"]),
    )


def correctness_reward(
    prompts: Sequence[Any], completions: Sequence[Any], *, answer: Sequence[str], **_: Any
) -> list[float]:
    """TRL reward function: 1.0 if the final answer is right, else 0.0."""
    pairs = zip(texts_of(completions), answer, strict=True)
    return [float(final_answer(text) == truth.split()) for text, truth in pairs]
