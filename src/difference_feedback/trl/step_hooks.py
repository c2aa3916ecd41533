"""What happens around an optimiser step: the bill, and no movement where there is no signal."""

from collections.abc import Iterable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class StepHooks(TrainerCallback):
    """Installed by the trainer itself."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.trainer.cost.start()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.trainer.cost.begin("update")
        if self.trainer.args.regroup:
            drop_zero_gradients(self.trainer.model.parameters())

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.trainer.cost.end()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.trainer.close_cost_window()


def drop_zero_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Set all gradients to None when every one of them is exactly zero: a batch without a single pair.

    An optimiser skips parameters without a gradient; with a zero gradient Adam would still move them, by its moments
    and by weight decay.
    """
    kept = [p for p in parameters if p.grad is not None]
    if not any(bool(p.grad.any()) for p in kept if p.grad is not None):
        for parameter in kept:
            parameter.grad = None
