"""The `difference_feedback:` block of a verl configuration, checked before the run starts."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import ValidationError

from difference_feedback.errors import ConfigError
from difference_feedback.method.settings import PairSettings, refuse
from difference_feedback.runs.renamed import rename
from difference_feedback.runs.sections import RepairEndpoint
from difference_feedback.runs.validation import build_config, explain


@dataclass(kw_only=True)
class VerlSettings(PairSettings):
    """The settings of the method, of the repair model's replicas, and a folder for tensors.

    Raises `ConfigError` for values that cannot work, each with its remedy.
    """

    repair_model: str | None = None
    """Folder or hub name of the repair model."""
    placement: Literal["pool", "own", "cpu"] = "pool"
    """`pool`: its replicas share the GPUs of verl's pool. `own`: each has a GPU that the pool leaves free. `cpu`: none
    has a GPU."""
    replicas: int | None = None
    """Number of copies of the repair model. By default one on each GPU of the pool, or else one."""
    style: Literal["nano", "full"] | None = None
    """Prompt of the repair model; by default that of its training."""
    temperature: float = 0.7
    batch_size: int = 64
    """Requests that a replica, or a server, gets at a time; each has `num_repairs` candidates."""
    speculate: bool | None = None
    """Whether a replica writes several tokens of a repair in one pass; by default where that is faster."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: str | None = None
    num_cpus: float = 1.0
    """Processors of a replica with `placement: cpu`, and its threads."""
    via: Literal["local", "endpoint", "vllm"] = "local"
    """`endpoint`: any chat server, `vllm`: a vLLM server of a model with the policy's tokenizer."""
    endpoint: dict[str, Any] = field(default_factory=dict)
    """The server: url, model, api_key_env, concurrency, timeout, ..."""

    dump: str | None = None
    """Folder for each step's tensors, as the update reads them, for tests and for the study of masks."""

    def __post_init__(self) -> None:
        self.check()
        if self.scores_drafts:
            raise ConfigError(
                f"weights={self.weights!r}: on verl, wrong answers are repaired and not scored; use weights='mask', or "
                "host: trl."
            )
        if self.needs_repairer and self.via == "local" and not self.repair_model:
            raise ConfigError(
                "repair_model is missing: give the folder or hub name of a repair model, via=endpoint, or "
                "num_repairs=0 with sibling_repairs=True."
            )
        if self.replicas is not None and self.replicas < 1:
            raise ConfigError(f"replicas={self.replicas}: give at least 1, or leave it out.")
        if self.batch_size < 1 or self.num_cpus <= 0:
            raise ConfigError(f"batch_size={self.batch_size}, num_cpus={self.num_cpus}: give numbers above 0.")
        if self.via == "local":
            return
        if self.replicas is not None:
            raise ConfigError(
                f"replicas={self.replicas}: via={self.via} asks a server and holds no model; leave it out."
            )
        if self.needs_repairer and not {"url", "model"} <= set(self.endpoint):
            raise ConfigError(f"endpoint.url or endpoint.model is missing: via={self.via} needs a server; give both.")
        try:
            if self.endpoint:
                RepairEndpoint.model_validate(self.endpoint)
        except ValidationError as error:
            raise ConfigError(explain(RepairEndpoint, error.errors()[0], {}, "endpoint")) from None

    @property
    def server(self) -> RepairEndpoint:
        """The server, with `via` other than `local`."""
        return RepairEndpoint.model_validate(self.endpoint)

    @property
    def needs_places(self) -> bool:
        """Whether replicas of a repair model are to be placed."""
        return self.needs_repairer and self.via == "local"

    def replicas_in(self, pool: int) -> int:
        """The number of replicas, where verl's pool has so many GPUs (0: they are not in it)."""
        return self.replicas or pool or 1


def settings_of(config: Mapping[str, Any]) -> VerlSettings | None:
    """The block of a whole verl configuration; None where it is absent or `enabled: false`, which is plain verl.

    With a critic (DF-PPO) answers stay as they are and no repairs are added: `regroup` is False. [DF, Eq. 26]

    Raises:
        ConfigError: an unknown key (with the nearest one), a value of the wrong type, or what verl would compute wrong.
    """
    from omegaconf import OmegaConf

    block: Any = OmegaConf.to_container(OmegaConf.create(config.get("difference_feedback") or {}), resolve=True)
    if not block or not block.pop("enabled", True):
        return None
    block = rename("difference_feedback", block, "difference_feedback")
    if "num_gpus" in block:
        raise ConfigError("difference_feedback.num_gpus: give placement=pool, own or cpu, and replicas, in its place.")
    settings = build_config(VerlSettings, block, source="difference_feedback")
    if by_critic(config):
        settings = replace(settings, regroup=False)
    refuse("difference_feedback", _problems(config, settings))
    return settings


def pool_of(config: Mapping[str, Any]) -> int:
    """The GPUs of verl's pool for the policy."""
    return int(config["trainer"]["n_gpus_per_node"] * config["trainer"]["nnodes"])


def by_critic(config: Mapping[str, Any]) -> bool:
    """Whether advantages come from a critic (DF-PPO)."""
    return config["algorithm"]["adv_estimator"] == "gae"


def _problems(config: Mapping[str, Any], settings: VerlSettings) -> Iterator[str]:
    """verl's settings with which ours would not do what they say."""
    algorithm, actor = config["algorithm"], config["actor_rollout_ref"]["actor"]
    grader = config["reward"]["reward_model"]
    loss = actor["policy_loss"].get("loss_mode", "vanilla")
    updates = actor["ppo_epochs"] * optimiser_steps(config)
    if settings.needs_places and settings.placement == "pool" and (settings.replicas or 1) > pool_of(config):
        yield (
            f"replicas={settings.replicas} with placement=pool: verl's pool has {pool_of(config)} GPUs "
            "(trainer.nnodes x trainer.n_gpus_per_node), and each holds one; use at most so many"
        )
    if (estimator := algorithm["adv_estimator"]) not in ("grpo", "gae"):
        yield f"algorithm.adv_estimator={estimator}: weights are verified with grpo and gae (PPO); use one of them"
    if loss not in ("vanilla", "gspo"):
        yield f"actor.policy_loss.loss_mode={loss}: weights are verified with vanilla and gspo; use one of them"
    if config["trainer"]["v1"]["trainer_mode"] != "sync":
        yield "trainer.v1.trainer_mode: only the synchronous trainer makes pairs; use sync"
    if algorithm["use_kl_in_reward"] and not by_critic(config):
        yield "algorithm.use_kl_in_reward: the KL would help to decide who is right; use actor.use_kl_loss"
    if (config.get("distillation") or {}).get("enabled", False):
        yield "distillation.enabled: the distillation loss would not be weighted; switch it off"
    if grader["enable"] and not grader["enable_resource_pool"]:
        yield (
            "reward.reward_model.enable: a prompt's rewards are needed as soon as its answers are complete; set "
            "reward.reward_model.enable_resource_pool=True"
        )
    if settings.regroup and (algorithm.get("rollout_correction") or {}).get("bypass_mode", False):
        yield "algorithm.rollout_correction.bypass_mode: the engine has no log-probabilities of repairs; switch it off"
    if settings.min_probability > 0 and not settings.regroup:
        yield f"min_probability={settings.min_probability}: without repairs in the batch the actor scores none; use 0"
    if settings.repaired_ratio == "one" and updates > 1:
        yield (
            f"repaired_ratio='one' with {updates} updates per batch: verl computes old log-probabilities once, before "
            "the first update; use 'old', or ppo_epochs=1 and ppo_mini_batch_size=train_batch_size"
        )


def optimiser_steps(config: Mapping[str, Any]) -> int:
    """Optimiser steps of one epoch over a batch: as many as without pairs."""
    mini_batch = config["actor_rollout_ref"]["actor"]["ppo_mini_batch_size"]
    return max(1, math.ceil(config["data"]["train_batch_size"] / mini_batch))
