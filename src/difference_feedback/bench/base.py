"""The nano base: warm-started until it is fluent and reads images imperfectly, which is where RL has work to do."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from difference_feedback.bench.supervised import (
    SupervisedExample,
    captions,
    in_batches,
    questions,
    rewrites,
    train_supervised,
)
from difference_feedback.models.generate import progress_bar
from difference_feedback.policy.evaluation import Evaluation, evaluate
from difference_feedback.runs.folder import Run
from difference_feedback.runs.recipes import BaseRecipe
from difference_feedback.runs.sections import EvaluationSettings
from difference_feedback.world import sample_problems
from difference_feedback.world.nano import build


def build_base(recipe: BaseRecipe, run: Run) -> dict[str, Any]:
    """Train the base into `run.model_path`, then from it the supervised upper bound; returns and writes the summary."""
    run.rewind(-1)  # the base is not resumed: it starts again
    model, processor = build(recipe.seed)
    _train(model, processor, warm_start(recipe), run, recipe.steps, recipe.learning_rate, "warm start")
    model.save_pretrained(run.model_path)
    processor.save_pretrained(run.model_path)
    summary: dict[str, Any] = {
        "parameters": model.num_parameters(),
        **measure(model, processor, recipe.evaluation).summary(),
    }
    if recipe.upper_bound_steps:
        train_upper_bound(model, processor, run, recipe.upper_bound_steps, recipe.batch_size, recipe.seed)
        bound = measure(model, processor, recipe.evaluation).summary()
        summary |= {"upper_bound": bound["accuracy"], "upper_bound_tasks": bound["tasks"]}
    summary["recipe"] = recipe.model_dump(mode="json")
    run.finish(summary)
    return summary


def warm_start(recipe: BaseRecipe) -> Iterator[list[SupervisedExample]]:
    """Batches on the labelled warm images: first captions, which teach perception, then questions and rewrites.

    Rewrites are twice as long as questions and have batches of their own, so that little is padding.
    """
    yield from islice(in_batches(captions("warm", recipe.seed), recipe.batch_size), recipe.caption_steps)
    to_answer = in_batches(questions("warm", recipe.seed), recipe.batch_size)
    to_rewrite = in_batches(rewrites("warm", recipe.seed), recipe.batch_size)
    rng = np.random.default_rng(recipe.seed)
    while True:
        yield next(to_rewrite if rng.random() < recipe.rewrite_share else to_answer)


def train_upper_bound(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    run: Run,
    steps: int,
    batch_size: int = 32,
    seed: int = 0,
    learning_rate: float = 1e-3,
    tasks: Sequence[str] | None = None,
) -> None:
    """Go on from the base with labels on the RL images: what the same model can reach with every right answer."""
    batches = in_batches(questions("rl", seed, tasks), batch_size)
    _train(model, processor, batches, run, steps, learning_rate, "upper bound")


def measure(model: Any, processor: Any, settings: EvaluationSettings, tasks: Sequence[str] | None = None) -> Evaluation:
    """Accuracy on held-out embedded problems."""
    problems = sample_problems(settings.split, settings.embedded_problems, settings.seed, tasks)
    return evaluate(model, processor, problems, seed=settings.seed, **settings.generation)


def _train(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    batches: Iterator[list[SupervisedExample]],
    run: Run,
    steps: int,
    learning_rate: float,
    title: str,
) -> None:
    with progress_bar() as progress:
        task = progress.add_task(title, total=steps)

        def on_step(step: int, loss: float) -> None:
            progress.update(task, completed=step, description=f"{title}, loss {loss:.3f}")
            if step % 20 == 0:
                run.log(stage=title, step=step, loss=loss)

        train_supervised(model, processor, batches, steps=steps, learning_rate=learning_rate, on_step=on_step)
