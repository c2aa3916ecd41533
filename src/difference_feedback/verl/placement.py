"""Where the replicas of the repair model run, and whether the cluster has room for them beside verl's pool.

verl's pool is one placement group a node, with a bundle of one GPU and three CPUs for each of its workers. A worker
takes a third of its bundle's GPU and leaves the rest to models beside it. A replica in the `pool` takes another third.
Ray counts these shares alone; whether the memory suffices is for the configuration to say.
"""

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from verl.plugin.platform import get_platform
from verl.single_controller.ray import RayResourcePool, ResourcePoolManager

from difference_feedback.errors import ConfigError
from difference_feedback.verl.settings import VerlSettings

SECONDS = 60.0
"""Longest wait for a place that the cluster has by its own count."""


def check_cluster(config: Mapping[str, Any], settings: VerlSettings) -> None:
    """Raise `ConfigError` where the cluster's free GPUs and CPUs cannot hold verl's pool and the replicas.

    Ray itself would wait for them without end.
    """
    gpu = get_platform().ray_resource_name()
    nodes = list(ray._private.state.available_resources_per_node().values())
    gpus, cpus = ([node.get(name, 0.0) for node in nodes] for name in (gpu, "CPU"))
    groups = list(_groups(config))
    apart = settings.replicas_in(0) if settings.needs_places and settings.placement == "own" else 0
    if not _fit(groups + [1] * apart, gpus):
        repairs, remedy = "", "smaller pools"
        if apart:
            repairs = f", and the repair model {apart} more (difference_feedback.placement=own, replicas={apart})"
            remedy = "difference_feedback.placement=pool, or a smaller trainer.n_gpus_per_node"
        raise ConfigError(
            f"the cluster has {_listed(gpus)} free GPUs. verl's pools need {sum(groups)} ({_sizes(config)}){repairs}. "
            f"Set {remedy}, or add nodes; a node holds one group of GPUs as a whole."
        )
    # Its units, its controller, and one CPU that Ray wants free to start any actor.
    beside = config["transfer_queue"]["backend"]["SimpleStorage"]["num_data_storage_units"] + 2 + apart
    if settings.needs_places and settings.placement == "cpu":
        beside += settings.replicas_in(0) * settings.num_cpus
    bundles = [ResourcePoolManager.max_colocate_count * size for size in groups]
    if sum(bundles) + beside > sum(cpus) or not _fit(bundles, cpus):
        raise ConfigError(
            f"the cluster has {_listed(cpus)} free CPUs. verl's pools need {sum(bundles)}, three for each GPU, and its "
            f"queue and the repair model {beside:g} more. Add CPUs (ray_kwargs.ray_init.num_cpus, where the cluster "
            "starts with the run), or set a smaller trainer.n_gpus_per_node, difference_feedback.num_cpus, or "
            "transfer_queue.backend.SimpleStorage.num_data_storage_units."
        )


def place_pool(pool: RayResourcePool, device: str) -> None:
    """Make the placement groups of verl's pool, as verl does later. It goes first, since its groups are the largest.

    Raises `ConfigError` where they have no place within `SECONDS`.
    """
    thread = threading.Thread(target=pool.get_placement_groups, kwargs={"device_name": device}, daemon=True)
    thread.start()  # verl waits without a limit
    thread.join(SECONDS)
    if pool.pgs is None:
        raise ConfigError(
            f"trainer.n_gpus_per_node: after {SECONDS:.0f} s the cluster has no room for groups of {pool.store} GPUs, "
            "though it has as many: wait until other jobs leave them, or set a smaller pool."
        )


def places(settings: VerlSettings, pool: RayResourcePool) -> list[dict[str, Any]]:
    """Ray's options of each replica, by `settings.placement`; `pool` is verl's, which has its places.

    Raises `ConfigError` where a place is not free within `SECONDS`.
    """
    if settings.placement == "pool":
        share = {"num_cpus": 1} | get_platform().ray_resource_options(1 / pool.max_colocate_count)
        bundles = [(group, i) for group in pool.pgs for i in range(group.bundle_count)]
        replicas = settings.replicas_in(len(bundles))
        chosen = [bundles[i * len(bundles) // replicas] for i in range(replicas)]
        return [_in(group, i) | share for group, i in chosen]
    apart = settings.placement == "own"
    cpus = 1 if apart else settings.num_cpus
    bundle = {"CPU": cpus} | ({get_platform().ray_resource_name(): 1} if apart else {})
    group = placement_group([bundle] * settings.replicas_in(0), strategy="PACK")
    if not group.wait(SECONDS):
        ray.util.remove_placement_group(group)
        raise ConfigError(
            f"difference_feedback.placement={settings.placement}: after {SECONDS:.0f} s the cluster has no room for "
            f"{settings.replicas_in(0)} times {bundle}. Set fewer difference_feedback.replicas, or placement=pool."
        )
    share = {"num_cpus": cpus} | (get_platform().ray_resource_options(1) if apart else {})
    return [_in(group, i) | share for i in range(group.bundle_count)]


def _in(group: PlacementGroup, bundle: int) -> dict[str, Any]:
    return {
        "scheduling_strategy": PlacementGroupSchedulingStrategy(
            placement_group=group, placement_group_bundle_index=bundle
        )
    }


def _groups(config: Mapping[str, Any]) -> Iterator[int]:
    """The GPUs of each group that verl places on one node."""
    grader = config["reward"]["reward_model"]
    for part in (config["trainer"], *([grader] if grader["enable_resource_pool"] else [])):
        yield from [part["n_gpus_per_node"]] * part["nnodes"]


def _sizes(config: Mapping[str, Any]) -> str:
    trainer, grader = config["trainer"], config["reward"]["reward_model"]
    sizes = f"trainer.nnodes={trainer['nnodes']} x trainer.n_gpus_per_node={trainer['n_gpus_per_node']}"
    if grader["enable_resource_pool"]:
        sizes += f", reward.reward_model.nnodes={grader['nnodes']} x n_gpus_per_node={grader['n_gpus_per_node']}"
    return sizes


def _listed(room: list[float]) -> str:
    return f"{sum(room):g}" + (f" ({' + '.join(f'{size:g}' for size in room)})" if len(room) > 1 else "")


def _fit(groups: list[int], room: list[float]) -> bool:
    """Whether every group finds a node with room for the whole of it, the largest first."""
    free = sorted(room, reverse=True)
    for group in sorted(groups, reverse=True):
        node = next((i for i, size in enumerate(free) if size >= group), None)
        if node is None:
            return False
        free[node] -= group
    return True
