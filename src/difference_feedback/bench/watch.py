"""What the bench measures during a training run: the work, and how well the masks match the known errors."""

from typing import Any

import numpy as np
from transformers import TrainerControl, TrainerState, TrainingArguments

from difference_feedback.models.flops import FlopMeter, Work
from difference_feedback.policy.callbacks import Watcher
from difference_feedback.world.mixture import from_row
from difference_feedback.world.oracle import error_tokens


def work_of(row: dict[str, Any]) -> Work:
    """The running total in a logged row."""
    return Work(**{name: row[f"flops/{name}"] for name in vars(Work())})


class CountWork(Watcher):
    """Logs the running total of the work. A resumed run continues from the total of its checkpoint."""

    def __init__(self) -> None:
        self.before = Work()
        self.meter = FlopMeter()

    @property
    def work(self) -> Work:
        return self.before + self.meter.work

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        rows = [row for row in state.log_history if "flops/forward" in row and row["step"] <= state.global_step]
        if rows:
            self.before = work_of(rows[-1])
        self.meter.__enter__()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.meter.__exit__()

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any = None, **_: Any) -> None:
        if logs is not None:
            totals = {f"flops/{name}": value for name, value in vars(self.work).items()}
            logs |= totals
            state.log_history[-1] |= totals


class MeasureMasks(Watcher):
    """Every `every` steps, compares the weights of that step's wrong answers with their known errors.

    Logged are sums over answers, from which `bench.results.mask_figures` makes shares: `mask/drafts`, `mask/tokens`,
    `mask/weight` (sum of weights), `mask/errors` (tokens that state a wrong value), `mask/marked` (weight of at
    least 0.5), `mask/hits` (both), `mask/first_hits` (answers whose first wrong token is marked). Answers in no known
    form are left out. The time for this does not count.
    """

    def __init__(self, every: int = 5) -> None:
        self.every = every
        self.sums: dict[str, float] = {}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        pairs = getattr(self.trainer, "last_pairs", None)
        if not pairs or state.global_step % self.every:
            return
        with self.budget.paused():
            self.sums = weights_against_errors(pairs, self.trainer.processing_class.tokenizer)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs is not None:
            logs |= self.sums
        self.sums = {}


def weights_against_errors(pairs: list[dict[str, Any]], tokenizer: Any) -> dict[str, float]:
    """The sums that `MeasureMasks` logs, over the wrong answers of `pairs` (`DFGRPOTrainer.last_pairs`)."""
    names = ("drafts", "tokens", "weight", "errors", "marked", "hits", "first_hits")
    sums = dict.fromkeys(names, 0.0)
    for pair in pairs:
        ids, weights = pair["wrong"]["token_ids"], np.array(pair["wrong"]["weights"])
        errors = error_tokens(from_row(pair["example"]), ids, tokenizer)
        if errors is None or not errors.any():
            continue
        marked = weights >= 0.5
        sums["drafts"] += 1
        sums["tokens"] += len(ids)
        sums["weight"] += float(weights.sum())
        sums["errors"] += int(errors.sum())
        sums["marked"] += int(marked.sum())
        sums["hits"] += int((marked & errors).sum())
        sums["first_hits"] += int(marked[int(np.argmax(errors))])
    return {f"mask/{name}": value for name, value in sums.items()}
