"""Which GPUs a run holds: the device of each rank, and those of the servers that work for the run."""

import os
from collections.abc import Iterable

import torch

from difference_feedback.method.cost import BILL
from difference_feedback.runs.first_rank import is_first_of_machine, is_first_rank
from difference_feedback.runs.sections import Endpoint


def bill_device(device: torch.device) -> None:
    """Bill this rank's device, if it is a GPU, or another accelerator."""
    BILL.hold("device", None if device.type in ("cpu", "mps") else 1)


def bill_servers(endpoints: Iterable[Endpoint]) -> None:
    """Bill the GPUs of a run's servers, by one rank for each server.

    A GPU that a rank of this machine holds is billed once. Of a server that the run does not start itself, the recipe
    says with `billed_gpus` how many GPUs it holds.
    """
    elsewhere, started = gpus_of_servers(endpoints)
    started -= set(visible_gpus()[: int(os.environ.get("LOCAL_WORLD_SIZE", "1"))])
    billed = elsewhere * is_first_rank() + len(started) * is_first_of_machine()
    BILL.hold("servers", billed if elsewhere or started else None)


def gpus_of_servers(endpoints: Iterable[Endpoint]) -> tuple[float, set[str]]:
    """How many GPUs servers that run already hold, and the names of those that the run's own servers are given."""
    elsewhere, started = 0.0, set[str]()
    for endpoint in endpoints:
        elsewhere += endpoint.billed_gpus
        if endpoint.serve is not None:
            started |= set(_split(endpoint.serve.gpus) if endpoint.serve.gpus else visible_gpus())
    return elsewhere, started


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES has for them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(i) for i in range(torch.cuda.device_count())] if named is None else _split(named)


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]
