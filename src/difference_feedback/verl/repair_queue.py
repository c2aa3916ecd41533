"""The queue between verl's agent loops and the replicas of the repair model: it batches requests of different prompts.

A free replica takes what waits, up to a batch, while answers to other prompts are still sampled. A request has random
streams of its own, so neither the order in which answers arrive nor the batches change its repairs.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayActorError
from verl.single_controller.ray import RayResourcePool

from difference_feedback.errors import DifferenceFeedbackError
from difference_feedback.method.repairs import Repair, RepairRequest
from difference_feedback.verl.placement import places
from difference_feedback.verl.repair_actor import RepairActor
from difference_feedback.verl.settings import VerlSettings

NAME = "difference_feedback_repairs"
WINDOW = 0.1
"""Seconds in which a free replica waits for more requests after the first."""
LANES = 4
"""Batches that are at a server at the same time, so that the slowest answer of one does not stop the others."""


Waiting = tuple[RepairRequest, "asyncio.Future[list[Repair]]"]


class RepairQueue:
    """Spreads requests over replicas. Ray runs its methods concurrently, in one thread."""

    def __init__(self, replicas: Sequence[Any], batch_size: int) -> None:
        self.replicas = replicas
        self.batch_size = batch_size
        self.waiting: asyncio.Queue[Waiting] = asyncio.Queue()
        self.tasks = set[asyncio.Task[None]]()
        self.lost: Exception | None = None
        self._busy, self._batches, self._since, self._seconds = 0, 0, 0.0, 0.0

    async def repair(self, requests: Sequence[RepairRequest]) -> list[list[Repair]]:
        """`K` candidates for each request. Raises what a replica raised for it."""
        if self.lost is not None:
            raise self.lost
        if not self.tasks:
            self.tasks = {asyncio.create_task(self._serve(replica)) for replica in self.replicas}
        futures = []
        for request in requests:
            futures.append(asyncio.get_running_loop().create_future())
            self.waiting.put_nowait((request, futures[-1]))
        return await asyncio.gather(*futures)

    async def take_work(self) -> tuple[float, int]:
        """Wall seconds in which at least one replica was at work, and the number of batches, since the last call."""
        now = time.perf_counter()
        seconds = self._seconds + (now - self._since if self._busy else 0.0)
        batches, self._batches, self._seconds, self._since = self._batches, 0, 0.0, now
        return seconds, batches

    async def _serve(self, replica: Any) -> None:
        while True:
            batch = [await self.waiting.get()]
            await asyncio.sleep(WINDOW)
            while len(batch) < self.batch_size and not self.waiting.empty():
                batch.append(self.waiting.get_nowait())
            self._start()
            try:
                await self._answer(replica, batch)
            except RayActorError as error:  # this replica is gone: the others take its work
                for request, future in batch:
                    if not future.done():
                        self.waiting.put_nowait((request, future))
                self._retire(error)
                return
            finally:
                self._stop()

    async def _answer(self, replica: Any, batch: list[Waiting]) -> None:
        """When a batch fails, its requests are sent one by one, so that none fails for another's fault."""
        try:
            repairs = await replica.repair.remote([request for request, _ in batch])
        except RayActorError:
            raise
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for item in batch:
                await self._answer(replica, [item])
        else:
            for (_, future), candidates in zip(batch, repairs, strict=True):
                future.set_result(candidates)

    def _retire(self, error: Exception) -> None:
        self.tasks -= {asyncio.current_task()}
        print(f"a replica of the repair model is lost, {len(self.tasks)} are left: {error}", flush=True)
        if self.tasks:
            return
        self.lost = DifferenceFeedbackError(f"every replica of the repair model is lost; the last one: {error}")
        while not self.waiting.empty():
            self.waiting.get_nowait()[1].set_exception(self.lost)

    def _start(self) -> None:
        self._batches += 1
        if not self._busy:
            self._since = time.perf_counter()
        self._busy += 1

    def _stop(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._seconds += time.perf_counter() - self._since


def start(settings: VerlSettings, pool: RayResourcePool, device: str, policy_path: str, max_tokens: int) -> Any:
    """Place the replicas, wait until each has its model, and return the queue's handle, which has a name, too.

    Raises `ConfigError` without a place for a replica, and otherwise what loading the model raises.
    """
    if settings.via == "local":
        replicas = [ray.remote(RepairActor).options(**place).remote() for place in places(settings, pool)]
        lanes = replicas
    else:
        # The endpoint's concurrency is that of all lanes together.
        count = min(LANES, settings.server.concurrency)
        per_lane = settings.endpoint | {"concurrency": settings.server.concurrency // count}
        settings = replace(settings, endpoint=per_lane)
        replicas = [ray.remote(RepairActor).options(num_cpus=0, max_concurrency=count).remote()]
        lanes = replicas * count
    ray.get([replica.load.remote(settings, device, policy_path, max_tokens) for replica in replicas])
    queue = ray.remote(RepairQueue).options(name=NAME, num_cpus=0, max_concurrency=100_000)
    handle = queue.remote(lanes, settings.batch_size)
    ray.get(handle.__ray_ready__.remote())
    return handle
