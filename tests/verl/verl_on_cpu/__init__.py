"""verl on a machine without an accelerator: what its CPU runs in the tests need. Loaded by `import verl` itself.

`VERL_USE_EXTERNAL_MODULES=verl_on_cpu` imports this in every process, before anything else of verl, so it must stay
cheap: it registers a platform, and installs the rest when a worker starts its process group.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed
from verl.plugin.platform import PlatformBase, PlatformRegistry


def _nothing(*_: Any, **__: Any) -> int:
    return 0


for _name in ("max_memory_allocated", "max_memory_reserved", "memory_allocated", "memory_reserved"):
    if not hasattr(torch.cpu, _name):  # verl asks every device
        setattr(torch.cpu, _name, _nothing)
for _name in ("empty_cache", "ipc_collect", "reset_peak_memory_stats"):
    if not hasattr(torch.cpu, _name):
        setattr(torch.cpu, _name, _nothing)


@PlatformRegistry.register(platform="cpu")
class CPU(PlatformBase):
    """A platform of one device, which Ray counts as a GPU."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = torch.cpu

    def is_available(self) -> bool:
        return True

    def current_device(self) -> str:
        return "cpu"

    def device_count(self) -> int:
        return 1

    def set_device(self, index: Any) -> None: ...

    def synchronize(self, index: Any = None) -> None: ...

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: Any) -> None: ...

    def empty_cache(self) -> None: ...

    def get_device_capability(self, index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, message: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None: ...

    def profiler_stop(self) -> None: ...

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False

    def cudart(self) -> None:
        return None


_init_process_group = torch.distributed.init_process_group


def _init_on_cpu(backend: str | None = None, *args: Any, **kwargs: Any) -> Any:
    """verl asks for `cpu:gloo,<device>:gloo`, which names the CPU twice here."""
    import verl_on_cpu.workers  # noqa: F401

    return _init_process_group("cpu:gloo" if backend == "cpu:gloo,cpu:gloo" else backend, *args, **kwargs)


torch.distributed.init_process_group = _init_on_cpu
