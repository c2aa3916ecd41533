"""What a training run does between its steps: show progress, and measure held-out accuracy in uncounted time."""

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from difference_feedback.policy.evaluation import Evaluation
from difference_feedback.runs.folder import Run
from difference_feedback.trl import StopAtBudget


class EvaluateHeldOut(TrainerCallback):
    """Measures held-out accuracy before the first step and every `every` steps, into metrics.jsonl.

    Each row has `step`, the seconds of `StopAtBudget` (counted so far, without evaluations), `accuracy`, `interval` and
    `tasks`. The caller takes the last, final measurement. `evaluate(final)` runs on every rank, since a sharded model
    needs them all; the first rank writes. `partly`: all measurements but the last are of a part of the problems.
    """

    def __init__(
        self, evaluate: Callable[[bool], Evaluation], every: int, run: Run, budget: StopAtBudget, partly: bool = False
    ) -> None:
        self.evaluate, self.every, self.run, self.budget, self.partly = evaluate, every, run, budget, partly
        self.last = (-1, False)
        self.latest: Evaluation | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step == 0:
            self.measure(state)
        elif any(row.get("step") == state.global_step and "accuracy" in row for row in self.run.metrics()):
            self.last = (state.global_step, False)  # its row was written before the run was resumed

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.every and state.global_step % self.every == 0:
            self.measure(state)

    def measure(self, state: TrainerState, final: bool = False) -> Evaluation:
        """Evaluate and write the row, unless that was done at this step."""
        key = (state.global_step, final and self.partly)
        if self.latest is not None and key == self.last:
            return self.latest
        is_new, self.last = key != self.last, key
        with self.budget.paused():
            self.latest = self.evaluate(final)
        if is_new and state.is_world_process_zero:
            keep = ("accuracy", "interval", "problems", "tasks")
            row = {name: value for name, value in self.latest.summary().items() if name in keep}
            self.run.log(step=state.global_step, **self.budget.seconds, **row)
        return self.latest


class Watcher(TrainerCallback):
    """A callback that looks at the trainer itself; `train.train` sets both fields before training starts.

    What it adds to the row that is logged reaches metrics.jsonl.
    """

    trainer: Any
    budget: StopAtBudget
