"""Every logged row as a line of JSON."""

import json
import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


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
        if logs is None or not state.is_world_process_zero:
            return
        row = {"step": state.global_step} | {name: _finite(value) for name, value in logs.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
