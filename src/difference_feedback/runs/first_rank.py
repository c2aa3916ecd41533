"""What one process must do for all: the first rank of a launch does it, and the others wait for its result.

`torchrun` and `accelerate launch` start one process a device. They set `RANK` and `WORLD_SIZE`, and a store of keys at
`MASTER_ADDR:MASTER_PORT`, over which torch later forms its group. The result goes through that store. It ends with the
launch, so nothing of a start that crashed is left, and the nodes of one launch need no common clock or file locks.
"""

import json
import os
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any, TypeVar

from difference_feedback.errors import ConfigError

T = TypeVar("T")
TIMEOUT = timedelta(minutes=10)
_calls = count()


def is_first_rank() -> bool:
    """Whether this process is the first of its launch, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def is_first_of_machine() -> bool:
    """Whether this process is the first of its launch on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def on_first_rank(work: Callable[[], T], timeout: timedelta = TIMEOUT) -> T:
    """Call `work` on the first rank alone; all ranks return its result, which JSON can hold.

    All ranks make this call, in the same order as other calls of this function. The others wait for `timeout`.

    Raises:
        ConfigError: on all ranks, where `work` raised it on the first one, or the first one ended.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "MASTER_ADDR" not in os.environ:
        return work()
    from torch.distributed import DistError

    store = _store()
    key = f"difference-feedback/{next(_calls)}"
    if is_first_rank():
        try:
            result = work()
        except BaseException as error:
            store.set(key, json.dumps({"error": str(error)}))
            raise
        store.set(key, json.dumps({"result": result}))
        return result
    try:
        store.wait([key], timeout)
        answer = json.loads(store.get(key))
    except DistError as error:
        raise ConfigError(f"the first rank ended, or took longer than {timeout}: see its output ({error}).") from None
    if "error" in answer:
        raise ConfigError(answer["error"])
    return answer["result"]


@cache
def _store() -> Any:
    """The launch's store. Where no agent holds it, the first rank does, for as long as this object lives."""
    from torch.distributed import rendezvous

    store, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
    return store
