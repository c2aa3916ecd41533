"""Callbacks of stage 2: stop at a plateau, and measure the repairs."""

from dataclasses import asdict
from typing import Any

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from difference_feedback.judges.audit import Auditor
from difference_feedback.repair.stage import Stage


class StopAtPlateau(TrainerCallback):
    """Stops the training when a logged metric no longer rises.

    That is when its mean over the last `window` logs exceeds its mean over the `window` logs before by less than
    `min_gain`. A resumed run goes on with the rows of its checkpoint.
    """

    def __init__(self, metric: str = "repair/correct", window: int = 5, min_gain: float = 0.01) -> None:
        self.metric = metric
        self.window = window
        self.min_gain = min_gain
        self.values: list[float] = []

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.values = [float(row[self.metric]) for row in state.log_history if row.get(self.metric) is not None]
        if self._is_flat():
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: TrainerControl, logs: Any = None, **_: Any) -> None:
        if not logs or logs.get(self.metric) is None:  # no repair was judged
            return
        self.values.append(float(logs[self.metric]))
        if self._is_flat():
            control.should_training_stop = True

    def _is_flat(self) -> bool:
        n = self.window
        if len(self.values) < 2 * n:
            return False
        return bool(np.mean(self.values[-n:]) < np.mean(self.values[-2 * n : -n]) + self.min_gain)


class MeasureRepairs(TrainerCallback):
    """Measures the repair model every `every` steps and logs `repair_quality`. The compute time is not counted."""

    def __init__(self, stage: Stage, every: int, auditor: Auditor | None) -> None:
        self.stage, self.every, self.auditor = stage, every, auditor

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self.every:
            return
        with self.stage.unbilled():
            quality = self.stage.quality(auditor=self.auditor)
        if quality is not None and state.is_world_process_zero:
            self.stage.run.log(step=state.global_step, **self.stage.seconds, repair_quality=asdict(quality))
