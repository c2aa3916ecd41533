"""Held-out accuracy of a model: batched generation, a rule's verdict on each answer, intervals by task."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from difference_feedback.data.question import Question
from difference_feedback.judges.answers import graded_answers
from difference_feedback.judges.extraction import final_answer
from difference_feedback.judges.intervals import wilson_interval
from difference_feedback.judges.questions import Grade, Grader, held_out
from difference_feedback.judges.served_model import ServedModel
from difference_feedback.models.end_tokens import end_of
from difference_feedback.models.load import load_model
from difference_feedback.models.ranks import ranks, say_idle_devices, sum_over_ranks
from difference_feedback.runs.check import check
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import write_jsonl
from difference_feedback.runs.recipes import EvaluateRecipe
from difference_feedback.runs.sections import EvaluationSettings
from difference_feedback.runs.serving import with_servers
from difference_feedback.runs.terminal import echo
from difference_feedback.world import is_correct


@dataclass(frozen=True)
class Prediction:
    """One answered question."""

    task: str
    question: str
    answer: str
    response: str
    correct: bool | None
    """None: unjudged."""
    id: str = ""
    cut_off: bool | None = None
    """Whether the answer reached the longest length before its end; None: not known."""

    def as_row(self, number: int) -> dict[str, Any]:
        """A row of predictions.jsonl; `number` stands for a missing `id`. `extracted` is the final answer as stated."""
        final = final_answer(self.response)
        row = {"id": self.id or str(number), "task": self.task, "question": self.question, "answer": self.answer}
        return row | {
            "response": self.response,
            "extracted": None if final is None else final.text,
            "correct": self.correct,
            "cut_off": self.cut_off,
        }


@dataclass(frozen=True)
class Evaluation:
    """The predictions, in the order of the questions, and what they amount to."""

    predictions: list[Prediction]
    cpu_seconds: float

    @property
    def judged(self) -> list[Prediction]:
        return [p for p in self.predictions if p.correct is not None]

    @property
    def accuracy(self) -> float | None:
        """The share of right answers among those that were judged. None if none was judged."""
        return _right(self.judged) / len(self.judged) if self.judged else None

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(_right(self.judged), len(self.judged))

    @property
    def by_task(self) -> dict[str, list[Prediction]]:
        tasks: dict[str, list[Prediction]] = {}
        for prediction in self.judged:
            tasks.setdefault(prediction.task, []).append(prediction)
        return dict(sorted(tasks.items()))

    def summary(self) -> dict[str, Any]:
        """As plain values, for summary.json."""
        return {
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "problems": len(self.judged),
            "unjudged": len(self.predictions) - len(self.judged),
            "cut_off": _cut_off(self.predictions),
            "tasks": {task: _right(judged) / len(judged) for task, judged in self.by_task.items()},
            "task_intervals": {
                task: list(wilson_interval(_right(judged), len(judged))) for task, judged in self.by_task.items()
            },
        }

    def write_predictions(self, path: Path) -> None:
        """One prediction a line, as JSON."""
        write_jsonl(path, (prediction.as_row(number) for number, prediction in enumerate(self.predictions, 1)))


def _right(predictions: Sequence[Prediction]) -> int:
    return sum(bool(prediction.correct) for prediction in predictions)


def _cut_off(predictions: Sequence[Prediction]) -> int | None:
    known = [prediction.cut_off for prediction in predictions if prediction.cut_off is not None]
    return sum(known) if known else None


def evaluate(
    model: Any,
    processor: Any,
    questions: Sequence[Question],
    *,
    grade: Grade | Grader = is_correct,
    progress: bool = False,
    **sampling: Any,
) -> Evaluation:
    """Answer `questions` and grade the answers; `grade` and `sampling` are as for `graded_answers`.

    The default is one greedy answer. Model and random state are left as they were: an evaluation during training
    changes nothing. Vision tokens are never generated. Where there are several ranks, all make this call: they share
    the work, and all return the results, which are those of a single rank.
    """
    if not questions:
        raise ValueError("questions is empty: give at least one question to evaluate on.")
    start = time.process_time()
    sampling = EvaluationSettings().generation | sampling
    title = "evaluating" if progress else None
    answers = graded_answers(model, processor, questions, grade=grade, progress=title, over_ranks=True, **sampling)
    predictions = [
        Prediction(
            question.task,
            question.question,
            question.answer,
            answer.text,
            answer.correct,
            str(getattr(question, "id", "")),
            cut_off=not end_of(answer.token_ids, processor.tokenizer),
        )
        for question, (answer,) in zip(questions, answers, strict=True)
    ]
    count, limit = _cut_off(predictions) or 0, f"{sampling['max_new_tokens']} tokens"
    note = cut_off_note(count, len(predictions), limit, "evaluation.max_new_tokens")
    if note and ranks().is_main_process:
        echo(note, err=True)
    return Evaluation(predictions, sum_over_ranks(time.process_time() - start))


def cut_off_note(count: int, answers: int, limit: str, key: str) -> str:
    """What to say of answers that were cut off at `limit`, which `key` sets; empty if they are few."""
    if count <= 0.05 * answers:
        return ""
    return (
        f"{count} of {answers} answers were cut off at the limit of {limit}, and most of these count as wrong. A model "
        f"that reasons before it answers needs more: {key}=2048, for example."
    )


@with_servers
def evaluate_recipe(recipe: EvaluateRecipe, run: Run) -> dict[str, Any]:
    """Run an `evaluate` recipe: write predictions.jsonl and summary.json to the run's folder; return the summary.

    Each rank holds the whole model and answers its share of the questions; the first one writes.
    """
    check(recipe)
    questions, grade = held_out(recipe)
    model: Any
    if recipe.evaluation.endpoint is not None:
        model = ServedModel(recipe.evaluation.endpoint, recipe.model)
        processor = model.processor
    else:
        say_idle_devices()
        model, processor = load_model(recipe.model, dtype=recipe.dtype, attention=recipe.attention, whole=True)
        model = model.to(ranks().device)
    sampling = recipe.evaluation.generation | {"seed": recipe.seed}
    result = evaluate(model, processor, questions, grade=grade, progress=True, **sampling)
    summary = {"model": recipe.model, **result.summary(), "evaluation_cpu_seconds": result.cpu_seconds}
    if ranks().is_main_process:
        result.write_predictions(run.folder / "predictions.jsonl")
        run.finish(summary)
    return summary


def show(summary: dict[str, Any], console: Console) -> None:
    """Print an evaluation's summary as a table, a row a task."""
    table = Table(title=f"{summary['model']}: {summary['problems']} held-out problems")
    table.add_column("task")
    for column in ("accuracy", "95 % interval"):
        table.add_column(column, justify="right")
    rows = {task: (share, summary["task_intervals"][task]) for task, share in summary["tasks"].items() if task}
    for task, (share, (low, high)) in rows.items():
        table.add_row(task, f"{share:.1%}", f"{low:.1%} – {high:.1%}", end_section=task == list(rows)[-1])
    if summary.get("unjudged"):
        table.caption = f"{summary['unjudged']} answers could not be judged and are not counted."
    if summary["accuracy"] is None:
        table.add_row("all", "no answer judged", "", style="bold")
    else:
        low, high = summary["interval"]
        table.add_row("all", f"{summary['accuracy']:.1%}", f"{low:.1%} – {high:.1%}", style="bold")
    console.print(table)
