"""Held-out accuracy of a model: batched generation, a rule's verdict on each answer, intervals by task."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from difference_feedback.data.question import Question
from difference_feedback.errors import ConfigError
from difference_feedback.judges.intervals import wilson_interval
from difference_feedback.models.generate import generate
from difference_feedback.runs.jsonl import write_jsonl
from difference_feedback.world import is_correct, sample_problems

if TYPE_CHECKING:
    from rich.console import Console

    from difference_feedback.judges.llm_judge import LLMJudge
    from difference_feedback.runs.folder import Run
    from difference_feedback.runs.recipes import EvaluateRecipe
    from difference_feedback.runs.sections import Data, Judge, Reward
    from difference_feedback.runs.sections import EvaluationSettings as Settings


Grade = Callable[[Any, str], bool]
"""`(question, response)`: whether the response is right."""


@dataclass(frozen=True)
class Prediction:
    """One answered question."""

    task: str
    question: str
    answer: str
    response: str
    correct: bool | None
    """None: unjudged."""


@dataclass(frozen=True)
class Evaluation:
    """The predictions, in the order of the questions, and what they amount to."""

    predictions: list[Prediction]
    cpu_seconds: float

    @property
    def judged(self) -> list[Prediction]:
        return [p for p in self.predictions if p.correct is not None]

    @property
    def accuracy(self) -> float:
        """Of the judged ones. NaN where nothing could be judged."""
        return sum(bool(p.correct) for p in self.judged) / len(self.judged) if self.judged else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(sum(bool(p.correct) for p in self.judged), len(self.judged))

    @property
    def by_task(self) -> dict[str, list[Prediction]]:
        tasks: dict[str, list[Prediction]] = {}
        for prediction in self.judged:
            tasks.setdefault(prediction.task, []).append(prediction)
        return dict(sorted(tasks.items()))

    def summary(self) -> dict[str, Any]:
        """As it stands in summary.json."""
        return {
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "problems": len(self.judged),
            "unjudged": len(self.predictions) - len(self.judged),
            "tasks": {task: sum(bool(p.correct) for p in found) / len(found) for task, found in self.by_task.items()},
            "task_intervals": {
                task: list(wilson_interval(sum(bool(p.correct) for p in found), len(found)))
                for task, found in self.by_task.items()
            },
        }

    def write_predictions(self, path: Path) -> None:
        """One prediction a line, as JSON."""
        write_jsonl(path, map(asdict, self.predictions))


def evaluate(
    model: Any,
    processor: Any,
    questions: Sequence[Question],
    *,
    grade: "Grade | LLMJudge" = is_correct,
    batch_size: int = 100,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Answer `questions` and grade the answers with `grade(question, response)`, or all at once by an `LLMJudge`.

    `temperature` 0 answers greedily, otherwise `seed` is that of the sampling. Model and random state are left as they
    were: an evaluation amid training changes nothing. Vision tokens are never generated.
    """
    if not questions:
        raise ValueError("No questions to evaluate on.")
    start = time.process_time()
    answers = generate(
        model,
        processor,
        [question.prompt for question in questions],
        [question.images for question in questions],
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        batch_size=batch_size,
        seed=seed,
        progress="evaluating" if progress else None,
    )
    responses = [processor.tokenizer.decode(token_ids, skip_special_tokens=True) for (token_ids,) in answers]
    verdicts: list[bool | None]
    if callable(grade):
        verdicts = [bool(grade(question, response)) for question, response in zip(questions, responses, strict=True)]
    else:
        verdicts = grade.grade(questions, responses)
    predictions = [
        Prediction(question.task, question.question, question.answer, response, correct)
        for question, response, correct in zip(questions, responses, verdicts, strict=True)
    ]
    return Evaluation(predictions, time.process_time() - start)


def held_out(
    settings: "Settings",
    data: "Data | None",
    tasks: Sequence[str] | None,
    reward: "Reward | None" = None,
    judge: "Judge | None" = None,
) -> tuple[Sequence[Question], "Grade | LLMJudge"]:
    """The questions of a recipe's evaluation and who grades them."""
    if data is None:
        questions: Sequence[Question] = sample_problems(settings.split, settings.problems, settings.seed, tasks)
    else:
        from difference_feedback.data.dataset import load_questions

        questions = load_questions(data)
    if reward == "llm-judge":
        return questions, judge_of(judge)
    if data is None and reward != "final-answer":
        return questions, is_correct
    from difference_feedback.judges.rules import matches

    return questions, lambda question, response: matches(response, question.answer, getattr(question, "options", None))


def judge_of(settings: "Judge | None") -> "LLMJudge":
    """The judge that a recipe names. Raises `ConfigError` when it names none."""
    if settings is None:
        raise ConfigError(
            "reward: llm-judge needs judge.endpoint, the url and model of the language model that grades."
        )
    from difference_feedback.judges.llm_judge import LLMJudge

    return LLMJudge(settings)


def evaluate_recipe(recipe: "EvaluateRecipe", run: "Run") -> dict[str, Any]:
    """Run an `evaluate` recipe: predictions.jsonl and summary.json in the run's folder, the summary returned."""
    from difference_feedback.models.load import load_model

    settings = recipe.evaluation
    questions, grade = held_out(settings, recipe.data, recipe.tasks, recipe.reward, recipe.judge)
    model, processor = load_model(recipe.model, dtype=recipe.dtype, attention=recipe.attention)
    if torch.cuda.is_available():
        model = model.cuda()
    found = evaluate(
        model,
        processor,
        questions,
        grade=grade,
        seed=recipe.seed,
        progress=True,
        **settings.generation,
    )
    found.write_predictions(run.folder / "predictions.jsonl")
    summary = {"model": recipe.model, **found.summary(), "evaluation_cpu_seconds": found.cpu_seconds}
    run.finish(summary)
    return summary


def show(summary: dict[str, Any], console: "Console") -> None:
    """Print an evaluation's summary as a table, a row a task."""
    from rich.table import Table

    table = Table(title=f"{summary['model']}: {summary['problems']} held-out problems")
    table.add_column("task")
    for column in ("accuracy", "95 % interval"):
        table.add_column(column, justify="right")
    rows = {task: (share, summary["task_intervals"][task]) for task, share in summary["tasks"].items() if task}
    for task, (share, (low, high)) in rows.items():
        table.add_row(task, f"{share:.1%}", f"{low:.1%} – {high:.1%}", end_section=task == list(rows)[-1])
    low, high = summary["interval"]
    if summary.get("unjudged"):
        table.caption = f"{summary['unjudged']} answers could not be judged and count in nothing."
    table.add_row("all", f"{summary['accuracy']:.1%}", f"{low:.1%} – {high:.1%}", style="bold")
    console.print(table)
