"""Fixtures of the TRL host's tests."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trl_world
from datasets import Dataset

from difference_feedback.trl import DFGRPOTrainer
from difference_feedback.world import nano

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # nano's kernels are too small to share


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved nano VLM with random weights."""
    path = tmp_path_factory.mktemp("base")
    model, processor = nano.build(0)
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def questions() -> Dataset:
    return trl_world.questions()


@pytest.fixture
def make_trainer(base: Path, questions: Dataset, tmp_path: Path) -> Callable[..., Any]:
    """Make a trainer: `make_trainer(kind, config changes..., repairer=, reward_funcs=, config=, ...)`."""

    def make(kind: type = DFGRPOTrainer, **changes: Any) -> Any:
        model, processor = trl_world.load(base)
        taken = {
            name: changes.pop(name)
            for name in ("repairer", "train_dataset", "callbacks", "peft_config", "reward_funcs", "eval_dataset")
            if name in changes
        }
        if issubclass(kind, DFGRPOTrainer):
            taken.setdefault("repairer", trl_world.FlipParity())
        taken = {"reward_funcs": trl_world.parity, "train_dataset": questions, **taken}
        config_kind = changes.pop("config_kind", trl_world.DFGRPOConfig)
        args = trl_world.config(changes.pop("folder", tmp_path), config_kind, **changes)
        return kind(model=model, args=args, processing_class=processor, **taken)

    return make
