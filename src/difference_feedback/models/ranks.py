"""Several processes that run one job, each with its own device: what is whose, and work that they share.

Each process is a rank. `torchrun` and `accelerate launch` start them.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import TrainingArguments

A = TypeVar("A", bound=TrainingArguments)
T = TypeVar("T")
R = TypeVar("R")


def ranks() -> PartialState:
    """This process among the others of its launch: `device`, `process_index`, `num_processes`. It joins their group."""
    return PartialState(cpu=not torch.cuda.is_available())


def one_device(args: A) -> A:
    """A trainer's settings, for one device a process: a process that sees several GPUs would use `nn.DataParallel`."""
    args._n_gpu = min(args.n_gpu, 1)
    return args


def say_idle_devices() -> None:
    """Print how to use all GPUs of this machine, where this is the only process and there are several."""
    count = torch.cuda.device_count()
    if count > 1 and ranks().num_processes == 1:
        print(
            f"This machine has {count} GPUs, and this run uses one of them. To use all, write `accelerate launch "
            f"--multi_gpu --num_processes {count} -m difference_feedback.cli` in place of `difference-feedback`.",
            file=sys.stderr,
        )


def is_sharded(model: nn.Module) -> bool:
    """Whether each rank holds a part of the weights only, by FSDP2 or ZeRO-3. All ranks then take part in a forward."""
    return any(isinstance(parameter, DTensor) or hasattr(parameter, "ds_id") for parameter in model.parameters())


@contextmanager
def whole_weights() -> Iterator[None]:
    """Inside, `from_pretrained` gives each rank all weights, also where the launch shards a trainer's model.

    Else ZeRO-3 would hand out parts of them at once, and FSDP2 load them on the first rank alone.
    """
    from transformers.integrations import deepspeed

    zero, fsdp = deepspeed._hf_deepspeed_config_weak_ref, os.environ.get("FSDP_CPU_RAM_EFFICIENT_LOADING")
    deepspeed.unset_hf_deepspeed_config()
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = zero
        del os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"]
        if fsdp is not None:
            os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = fsdp


def own_share(count: int, equally_many: bool = False) -> list[int]:
    """Which of `count` pieces of work are this rank's: every n-th of them.

    With `equally_many`, all ranks do the same number of pieces: those with one less do the last piece again.
    """
    state = ranks()
    share = list(range(state.process_index, count, state.num_processes))
    if equally_many and len(share) < -(-count // state.num_processes):
        share.append(count - 1)
    return share


def shared_work(items: Sequence[T], work: Callable[[Sequence[T]], list[R]]) -> list[R]:
    """`work(items)`, one result an item, of which each rank does a part. All ranks return all results, in order."""
    state = ranks()
    size = -(-len(items) // state.num_processes)
    start = state.process_index * size
    results: list[R] = gather_object(work(part) if (part := items[start : start + size]) else [])
    return results


def sum_over_ranks(value: float) -> float:
    """The sum of every rank's `value`; all ranks make this call."""
    values: list[Any] = gather_object([value])
    return float(sum(values))
