"""Every logged row as a line of JSON."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from difference_feedback.runs.jsonl import JsonLines


class MetricsToJsonl(TrainerCallback):
    """Appends `{"step": ..., ...}` to a file at every log, from the first process alone.

    Add it after the callbacks that put something into the row, such as `StopAtBudget`. Numbers that are not finite are
    written as null.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs is not None and state.is_world_process_zero:
            JsonLines(self.path).append({"step": state.global_step} | logs)
