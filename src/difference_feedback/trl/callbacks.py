"""What happens around optimiser steps: a budget of processor time, rows in a file, a progress bar, the ledger."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import reduce
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_callback import ExportableState

from difference_feedback.errors import ConfigError
from difference_feedback.method.cost import BILL
from difference_feedback.models.flops import uncounted
from difference_feedback.runs.jsonl import JsonLines


class StopAtBudget(TrainerCallback, ExportableState):
    """Stops after the step in which the processes' CPU seconds reach `cpu_seconds`; works with any trainer.

    With `cpu_seconds=None` it only counts. A learning-rate schedule runs over the budget: its place is the share of the
    budget, or of the steps, that is used up, whichever is larger.

    It counts the CPU seconds of all ranks from the start of training, plus `already_spent`: the seconds of what came
    before, such as training the repair model. It logs the running total on every line as `cpu_seconds`, and keeps it in
    the checkpoint's `trainer_state.json`, so that a resumed run goes on counting.
    """

    def __init__(self, cpu_seconds: float | None, already_spent: float = 0.0) -> None:
        if cpu_seconds is not None and not cpu_seconds > 0:
            raise ConfigError(f"cpu_seconds={cpu_seconds}: give a positive number of seconds, or None for no limit.")
        self.cpu_seconds = cpu_seconds
        self.already_spent = already_spent
        self.total = already_spent
        self.spent_before = 0.0
        self._start = BILL.now()[1]

    def state(self) -> dict[str, Any]:
        return {
            "args": {"cpu_seconds": self.cpu_seconds, "already_spent": self.already_spent},
            "attributes": {"spent_before": self.total - self.already_spent},
        }

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside, such as an evaluation between two steps, counts neither here nor in ledgers."""
        with BILL.paused(), uncounted():
            yield

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        # Trainer restores callbacks only where `restore_callback_states_from_checkpoint` is set; this reads it anyway.
        callbacks: Any = state.stateful_callbacks or {}
        saved = callbacks.get(type(self).__name__, {}) if state.global_step else {}
        self.spent_before = saved.get("attributes", {}).get("spent_before", 0.0)
        self.total = self.already_spent + self.spent_before
        self._start = BILL.now()[1]

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        here = torch.tensor([BILL.now()[1] - self._start], device=args.device)
        self.total = self.already_spent + self.spent_before + reduce(here, reduction="sum").item()
        if self.cpu_seconds is None:
            return
        # The schedule starts with the first step: what was spent before is not part of it.
        spent, whole = self.total - self.already_spent, max(self.cpu_seconds - self.already_spent, 1e-9)
        place, schedule = int(min(1.0, spent / whole) * state.max_steps), kwargs["lr_scheduler"]
        if place > state.global_step and isinstance(schedule, LambdaLR):  # others go by their own clocks
            schedule.last_epoch = place - 1
            schedule.step()
        if self.total >= self.cpu_seconds:
            control.should_training_stop = control.should_log = True

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any) -> None:
        if logs is not None:
            logs["cpu_seconds"] = self.total
            state.log_history[-1]["cpu_seconds"] = self.total


class MetricsToJsonl(TrainerCallback):
    """Appends `{"step": ..., ...}` to a file at every log, from the first process only.

    Add it after the callbacks that put something into the row, such as `StopAtBudget`. Numbers that are not finite are
    written as null.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any) -> None:
        if logs is None or not state.is_world_process_zero:
            return
        JsonLines(self.path).append({"step": state.global_step} | logs)


class ShowProgress(TrainerCallback):
    """A progress bar with the latest reward and the processor time so far, on the first process."""

    def __init__(self, name: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.progress = Progress(*columns, TextColumn("{task.fields[note]}"))
        self.name = name
        self.task: TaskID | None = None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            self.task = self.progress.add_task(self.name, total=state.max_steps, completed=state.global_step, note="")
            self.progress.start()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.task is not None:
            self.progress.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any) -> None:
        if self.task is not None and logs and "reward" in logs:
            note = f"reward {logs['reward']:.2f}, {logs.get('cpu_seconds', 0.0):.0f} CPU s"
            self.progress.update(self.task, note=note)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.progress.stop()


class StepHooks(TrainerCallback):
    """Keeps the trainer's ledger, and lets nothing move in a step without a single pair. The trainer adds it itself.

    Such a step counts as one: the learning rate's schedule goes on. The weights and the optimiser's state stay.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.trainer.args.regroup and self.trainer.is_deepspeed_enabled:
            skip_empty_steps(self.trainer.deepspeed.optimizer)
        self.trainer.cost.start()

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.trainer.cost.begin("update")
        gradients = (parameter.grad for parameter in self.trainer.model.parameters())
        if self.trainer.args.regroup and not any(bool(grad.any()) for grad in gradients if grad is not None):
            # To None: with gradients of 0, Adam would still move the weights by its moments and by weight decay.
            self.trainer.model.zero_grad(set_to_none=True)

    def on_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.trainer.cost.end()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.trainer.close_cost_window()


def skip_empty_steps(optimizer: Any) -> None:
    """Let a DeepSpeed ZeRO optimiser leave all as it is in a step whose gradient is 0 on all ranks.

    DeepSpeed steps inside `backward`, on gradients that are not in `.grad`, so a callback comes too late. It takes the
    gradient's norm over all ranks before it calls the optimiser that it wraps.
    """
    wrapped = optimizer.optimizer
    step = wrapped.step

    def step_unless_empty(*args: Any, **kwargs: Any) -> Any:
        if optimizer._global_grad_norm != 0:
            return step(*args, **kwargs)

    wrapped.step = step_unless_empty
