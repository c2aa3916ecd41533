"""What happens around optimiser steps: a budget of processor time, rows in a file, a progress bar, the ledger."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import reduce
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_callback import ExportableState

from difference_feedback.errors import ConfigError, DifferenceFeedbackError
from difference_feedback.method.cost import BILL, SECONDS
from difference_feedback.models.billing import bill_device
from difference_feedback.models.flops import uncounted
from difference_feedback.runs.jsonl import JsonLines, read_rows


class StopAtBudget(TrainerCallback, ExportableState):
    """Stops after the step in which the run has spent its processor time or its GPU time; works with any trainer.

    Without a limit it only counts. A learning-rate schedule runs over the budget: its place is the share of the budget,
    or of the steps, that is used up, whichever is larger.

    It counts the seconds of all ranks from the start of training (`method.cost` says what a GPU second is), plus
    `already_spent`, the CPU seconds of what came before, such as training the repair model, or the seconds by clock. It
    logs the totals on every line as `cpu_seconds` and, where GPUs are held, `gpu_seconds`. It keeps them in the
    checkpoint's `trainer_state.json`, so that a resumed run goes on counting, `already_spent` included: what came
    before may be done again after a kill, and is billed once.
    """

    def __init__(
        self,
        cpu_seconds: float | None = None,
        already_spent: float | Mapping[str, float] = 0.0,
        *,
        gpu_seconds: float | None = None,
    ) -> None:
        self.limits: dict[str, float] = {}
        for name, limit in (("cpu", cpu_seconds), ("gpu", gpu_seconds)):
            if limit is not None and not limit > 0:
                raise ConfigError(f"{name}_seconds={limit}: give a positive number of seconds, or None for no limit.")
            if limit is not None:
                self.limits[name] = limit
        spent = already_spent if isinstance(already_spent, Mapping) else {"cpu": already_spent}
        self.already_spent = {"cpu": 0.0} | {clock: seconds for clock, seconds in spent.items() if clock != "wall"}
        self.totals = dict(self.already_spent)
        self.spent_before: dict[str, float] = {}
        self._start = BILL.now()

    @property
    def total(self) -> float:
        """CPU seconds so far."""
        return self.totals["cpu"]

    @property
    def seconds(self) -> dict[str, float]:
        """All clocks but the wall's, as logs name them: `cpu_seconds`, and `gpu_seconds` where GPUs are held."""
        return {SECONDS[clock]: total for clock, total in self.totals.items()}

    def state(self) -> dict[str, Any]:
        spent = {clock: total - self.already_spent.get(clock, 0.0) for clock, total in self.totals.items()}
        settings = {SECONDS[clock]: limit for clock, limit in self.limits.items()}
        return {
            "args": settings | {"already_spent": self.already_spent},
            "attributes": {"spent_before": spent},
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
        if isinstance(already := saved.get("args", {}).get("already_spent"), dict):
            self.already_spent = already
        before = saved.get("attributes", {}).get("spent_before", {})
        self.spent_before = before if isinstance(before, dict) else {"cpu": before}  # checkpoints of the release before
        bill_device(args.device)
        self._start = BILL.now()
        self._count(dict.fromkeys(self._start, 0.0))
        if state.global_step and max(self._shares(), default=0.0) >= 1.0:
            control.should_training_stop = True

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        now = BILL.now()
        here = torch.tensor([now[clock] - start for clock, start in self._start.items()], device=args.device)
        self._count(dict(zip(self._start, reduce(here, reduction="sum").tolist(), strict=True)))
        if not self.limits:
            return
        shares = self._shares()
        place, schedule = int(min(1.0, max(shares)) * state.max_steps), kwargs["lr_scheduler"]
        if place > state.global_step and isinstance(schedule, LambdaLR):  # others go by their own clocks
            schedule.last_epoch = place - 1
            schedule.step()
        if max(shares) >= 1.0:
            control.should_training_stop = control.should_log = True

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any) -> None:
        if logs is not None:
            logs |= self.seconds
            state.log_history[-1] |= self.seconds

    def _shares(self) -> list[float]:
        """How much of each limit is used up. What was spent before the first step is part of neither."""
        shares = []
        for clock, limit in self.limits.items():
            before = self.already_spent.get(clock, 0.0)
            shares.append((self.totals.get(clock, before) - before) / max(limit - before, 1e-9))
        return shares

    def _count(self, here: dict[str, float]) -> None:
        """Put the seconds since the start of training onto those before."""
        self.totals = {
            clock: self.already_spent.get(clock, 0.0) + self.spent_before.get(clock, 0.0) + seconds
            for clock, seconds in here.items()
            if clock != "wall"
        }


def check_gpu_budget(gpu_seconds: float | None) -> None:
    """Raise `ConfigError` for a budget of GPU time where no GPU trains: it would never be spent."""
    if gpu_seconds is not None and not torch.cuda.is_available():  # as `machine_settings` chooses the device
        raise ConfigError("budget_gpu_seconds: this machine has no GPU: set budget_cpu_seconds, or trl.max_steps.")


class MetricsToJsonl(TrainerCallback, ExportableState):
    """Appends `{"step": ..., ...}` to a file at every log, from the first process only.

    Add it after the callbacks that put something into the row, such as `StopAtBudget`. Numbers that are not finite are
    written as null. Checkpoints note how many rows the file has: `Run.rewind_to` removes later ones.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def state(self) -> dict[str, Any]:
        return {"args": {"path": str(self.path)}, "attributes": {"rows": len(read_rows(self.path))}}

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any) -> None:
        if logs is None or not state.is_world_process_zero:
            return
        JsonLines(self.path).append({"step": state.global_step} | logs)


class StopWhenDiverged(TrainerCallback):
    """Ends a run whose weights are no longer numbers: it would go on, learn nothing, and save them."""

    _weight: torch.Tensor | None = None

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._weight is None:  # the smallest will do: a gradient that is no number spoils all of them
            trained = [p for p in kwargs["model"].parameters() if p.requires_grad and p.numel()]
            self._weight = min(trained, key=torch.Tensor.numel, default=torch.zeros(1))
        if not torch.isfinite(self._weight).all():
            raise DifferenceFeedbackError(
                f"step {state.global_step}: the weights are no numbers any more: lower trl.learning_rate, set "
                "trl.max_grad_norm, or check the rewards. The last checkpoint is whole; a run that goes on from it "
                "with the same recipe would come here again."
            )


class ShowProgress(TrainerCallback):
    """A progress bar with the latest reward, number of pairs, and the processor time so far, on the first process."""

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
            clock = "GPU" if "gpu_seconds" in logs else "CPU"
            pairs = f"{logs['df/pairs']:.0f} pairs, " if "df/pairs" in logs else ""
            seconds = logs.get(f"{clock.lower()}_seconds", 0.0)
            reward = "no answer judged" if logs["reward"] is None else f"reward {logs['reward']:.2f}"
            note = f"{reward}, {pairs}{seconds:.0f} {clock} s"
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
        bill_device(args.device)
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
