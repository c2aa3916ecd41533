"""verl's synchronous trainer on pairs: right answers leave, repairs enter, advantages get weights. [DF, Eqs. 14-28]

The order of a step is verl's. Three methods are overridden for it, and two for the start:

    _balance_batch        rows that leave the optimisation group are cleared from the queue
    _compute_advantage    verl's advantages, times the weights (GAE whitens before)
    _update_actor         as many optimiser steps as configured, and means over real rows, for any `2|Y⁻|`
"""

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import ray
import torch
import transfer_queue as tq
from safetensors.torch import save_file
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.single_controller.ray import ResourcePoolManager
from verl.trainer.ppo.padding_utils import upsample_batch_to_divisible_size
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.metric import reduce_metrics
from verl.utils.py_functional import rename_dict

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method.groups import least_right
from difference_feedback.method.weighting import gate_advantages
from difference_feedback.verl import repair_queue
from difference_feedback.verl.agent_loop import REPAIR_SESSION
from difference_feedback.verl.placement import place_pool
from difference_feedback.verl.settings import optimiser_steps, settings_of


class DFTrainer(PPOTrainerSync):
    """`PPOTrainerSync` with Difference Feedback, for a configuration that has its block."""

    resource_pool_manager: Any

    def _setup(self) -> None:
        settings = settings_of(self.config)
        assert settings is not None
        self.settings = settings
        super()._setup()

    def _init_tokenizer(self) -> None:
        super()._init_tokenizer()
        model = self.config.actor_rollout_ref.model
        if self.processor is None and hasattr(kind := omega_conf_to_dataclass(model).hf_config, "vision_config"):
            raise ConfigError(
                f"actor_rollout_ref.model.path: {model.path} has model_type {kind.model_type}, and verl 0.9.1 has no "
                "processor for such models: they would not see their images. Train it with host: trl."
            )

    def _init_resource_pool_mgr(self) -> None:
        """verl's pool and the repair model get their places before verl's workers load, so that errors come at once."""
        super()._init_resource_pool_mgr()
        manager = self.resource_pool_manager
        self.resource_pool_manager = _Pools(manager.resource_pool_spec, manager.mapping)
        self.resource_pool_manager.create_resource_pool()
        device, config = self.config.trainer.device, self.config.actor_rollout_ref
        pool = self.resource_pool_manager.resource_pool_dict["global_pool"]
        place_pool(pool, device)
        self.repairer: Any = None
        if self.settings.needs_repairer:
            path, max_tokens = config.model.path, config.rollout.response_length
            self.repairer = repair_queue.start(self.settings, pool, device, path, max_tokens)

    # ---- which rows ----

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict[str, Any], **kwargs: Any) -> KVBatchMeta:
        if self.settings.min_probability > 0:
            metrics["df/implausible"] = self._drop_implausible(batch)
        metrics.update(self._count(batch))
        metrics["df/answers_of_failed_prompts"] = sum("df_role" not in tag for tag in batch.tags)
        if metrics["df/answers_of_failed_prompts"] == len(batch):
            raise DataError("every prompt of the batch failed: look in verl's log for 'Error in _run_prompt'.")
        work = ray.get(self.repairer.take_work.remote()) if self.repairer else (0.0, 0)
        metrics["df/seconds/repair"], metrics["df/repair_batches"] = work
        self._no_pairs = False
        stay = [i for i, tag in enumerate(batch.tags) if self._stays(tag)]
        if not stay:  # verl still needs a row to go through the step with
            self._no_pairs, stay = True, [0]
        if leaving := sorted(set(batch.keys) - {batch.keys[i] for i in stay}):
            tq.kv_clear(keys=leaving, partition_id=batch.partition_id)
            batch = _rows(batch, stay)
        # Prompts of which an answer failed were never completed, and have no weights: they get weights of 0.
        if failed := [i for i, tag in enumerate(batch.tags) if "df_role" not in tag]:
            zeros = [torch.zeros(batch.tags[i]["response_len"]) for i in failed]
            self._put(batch, zeros, "df_weights", [batch.keys[i] for i in failed])
        batch = super()._balance_batch(batch, metrics=metrics, **kwargs)
        metrics["df/rows"] = sum(not tag.get("is_padding", False) for tag in batch.tags)
        metrics["df/padding_rows"] = len(batch.keys) - metrics["df/rows"]
        return batch

    def _stays(self, tag: dict[str, Any]) -> bool:
        """Whether a row is optimised: an answer of a pair, or without pairs every answer that was judged.

        An unjudged answer would count as a reward of 0 in verl's mean over its group.
        """
        if self.settings.regroup:
            return tag.get("df_role") in ("answer", "repair")
        return "df_role" not in tag or tag.get("df_reward") is not None

    def _drop_implausible(self, batch: KVBatchMeta) -> int:
        """Remove pairs from `G'` whose repair has a token that the actor finds too improbable; returns their number.

        The agent loops chose the repairs without the actor, so no other candidate replaces a removed one.
        """
        repairs = [i for i, tag in enumerate(batch.tags) if tag.get("df_role") == "repair"]
        if not repairs:
            return 0
        multiple = self._get_required_batch_multiple(self.actor_rollout_wg.world_size)
        scored = upsample_batch_to_divisible_size(_rows(batch, repairs), multiple, self.tokenizer.eos_token_id)
        scored = super()._compute_old_log_prob(scored, {})
        data = tq.kv_batch_get(keys=scored.keys, partition_id=scored.partition_id, select_fields=["old_log_probs"])
        lowest = {key: float(row.min().exp()) for key, row in zip(scored.keys, data["old_log_probs"], strict=True)}
        if padding := scored.keys[len(repairs) :]:
            tq.kv_clear(keys=padding, partition_id=scored.partition_id)
        improbable = [i for i in repairs if lowest[batch.keys[i]] < self.settings.min_probability]
        tags = dict(zip(batch.keys, batch.tags, strict=True))
        for key in (batch.keys[i] for i in improbable):
            uid, session, output = key.rsplit("_", 2)
            wrong = f"{uid}_{int(session) - REPAIR_SESSION}_{output}"
            del tags[wrong]["df_edit_cost"]
            tags[key]["df_role"] = "left"
            if self.settings.empty_feasible == "broadcast":
                self._put(batch, [torch.ones(tags[wrong]["response_len"])], "df_weights", [wrong])
            else:
                tags[wrong]["df_role"] = "left"
        # Right answers stay only beside wrong ones.
        stay = {key: tag for key, tag in tags.items() if tag.get("df_role") == "answer"}
        enough = least_right(self.settings.reward_threshold)
        right = {key for key, tag in stay.items() if tag["df_reward"] >= enough}
        prompts = {key.rsplit("_", 2)[0] for key in stay.keys() - right}
        for key in right:
            if key.rsplit("_", 2)[0] not in prompts:
                stay[key]["df_role"] = "left"
        return len(improbable)

    def _count(self, batch: KVBatchMeta) -> dict[str, float]:
        """Metrics of all answers, also of those that leave."""
        counted: defaultdict[str, float] = defaultdict(float)
        for name, value in (item for tag in batch.tags for item in tag.items() if item[0].startswith("df/")):
            counted[name] += value
        rewards = [tag["df_reward"] for tag in batch.tags if tag.get("df_reward") is not None]
        costs = [tag["df_edit_cost"] for tag in batch.tags if "df_edit_cost" in tag]
        counted["df/pairs"] = len(costs)
        if rewards:
            counted["df/reward_of_answers"] = sum(rewards) / len(rewards)
        if counted["df/requested"]:
            counted["df/feasible_share"] = len(costs) / counted["df/requested"]
        if costs:
            counted["df/edit_cost"] = sum(costs) / len(costs)
        return counted

    def _get_required_batch_multiple(self, dp_size: int) -> int:
        """The batch is padded to whole micro-batches per rank and optimiser step, not to configured mini-batches."""
        if not self.settings.regroup:
            return super()._get_required_batch_multiple(dp_size)
        config = self.config.actor_rollout_ref
        forward = [part for part in (config.rollout, config.ref) if not part.log_prob_use_dynamic_bsz]
        sizes = [part.log_prob_micro_batch_size_per_gpu for part in forward]
        rows = 1 if config.actor.use_dynamic_bsz else config.actor.ppo_micro_batch_size_per_gpu or 1
        return dp_size * math.lcm(optimiser_steps(self.config) * rows, *(size or 1 for size in sizes))

    # ---- log-probabilities and advantages ----

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """Repairs get the actor's log-probabilities like all rows, also in place of a rollout engine's."""
        batch = super()._compute_old_log_prob(batch, metrics)
        if not self.config.actor_rollout_ref.rollout.calculate_log_probs:
            return batch
        data = tq.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=["old_log_probs", "rollout_log_probs"]
        )
        old, sampled = list(data["old_log_probs"]), list(data["rollout_log_probs"])
        worst = 0.0
        for i, tag in enumerate(batch.tags):
            if tag.get("is_padding", False) or tag.get("df_role") == "repair":
                sampled[i] = old[i]
            elif len(old[i]):
                worst = max(worst, float((old[i].exp() - sampled[i].exp()).abs().max()))
        metrics["df/probs_diff_max"] = worst
        self._put(batch, sampled, "rollout_log_probs")
        return batch

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        batch = super()._compute_advantage(batch, metrics)
        fields = ["advantages", "df_weights", "old_log_probs", "response_mask"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        weights = [
            torch.zeros_like(advantage) if tag.get("is_padding", False) else row.to(advantage.dtype)
            for advantage, row, tag in zip(data["advantages"], data["df_weights"], batch.tags, strict=True)
        ]
        weighted = [gate_advantages(a[None], w[None])[0] for a, w in zip(data["advantages"], weights, strict=True)]
        metrics["df/weighted_tokens"] = sum(float((row > 0).sum()) for row in weights)
        metrics["df/weight_density"] = metrics["df/weighted_tokens"] / max(1, sum(int(row.numel()) for row in weights))
        if self.settings.dump:
            self._dump(batch, data, weights)
        self._put(batch, weighted, "advantages")
        return batch

    # ---- update ----

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """With pairs, the batch is cut into the configured number of optimiser steps. Row means divide by real rows, so
        that padding takes nothing from the gradient. With the original group the update is verl's."""
        if self._no_pairs:
            return batch  # an update without gradients would still move the weights by the optimiser's moments
        if not self.settings.regroup:
            return super()._update_actor(batch, metrics)
        actor = self.config.actor_rollout_ref.actor
        batch.extra_info |= {
            "calculate_entropy": actor.calculate_entropy or actor.entropy_coeff != 0.0,
            "distillation_use_topk": False,
            "distillation_only": False,
            "global_batch_size": metrics["df/rows"] / optimiser_steps(self.config),
            "mini_batch_size": len(batch.keys) // optimiser_steps(self.config),
            "epochs": actor.ppo_epochs,
            "seed": actor.data_loader_seed,
            "dataloader_kwargs": {"shuffle": actor.shuffle},
            "temperature": self.config.actor_rollout_ref.rollout.temperature,
        }
        output = rename_dict(self.actor_rollout_wg.update_actor(batch)["metrics"], "actor/")
        output["perf/mfu/actor"] = output.pop("actor/mfu")
        metrics.update(reduce_metrics(output))
        return batch

    # ---- small parts ----

    def _put(self, batch: KVBatchMeta, rows: list[torch.Tensor], name: str, keys: list[str] | None = None) -> None:
        nested = torch.nested.as_nested_tensor([row.detach() for row in rows], layout=torch.jagged)
        fields = TensorDict({name: nested}, batch_size=len(rows))
        tq.kv_batch_put(keys=keys or batch.keys, partition_id=batch.partition_id, fields=fields)

    def _dump(self, batch: KVBatchMeta, data: Any, weights: list[torch.Tensor]) -> None:
        """`step_<n>.safetensors`: what the actor's loss reads, padded to `(N, T)`; padding rows have empty masks."""
        folder = Path(str(self.settings.dump))
        folder.mkdir(parents=True, exist_ok=True)

        def padded(rows: Any) -> torch.Tensor:
            return torch.nn.utils.rnn.pad_sequence([row.detach().float().cpu() for row in rows], batch_first=True)

        tensors = {name: padded(list(data[name])) for name in ("advantages", "old_log_probs", "response_mask")}
        tensors["weights"] = padded(weights)
        tensors["is_repair"] = torch.tensor([tag.get("df_role") == "repair" for tag in batch.tags])
        save_file(tensors, folder / f"step_{self.global_steps}.safetensors")


class _Pools(ResourcePoolManager):
    """verl's pools, which stay when verl makes them a second time."""

    def create_resource_pool(self) -> None:
        if not self.resource_pool_dict:
            super().create_resource_pool()


def _rows(batch: KVBatchMeta, rows: list[int]) -> KVBatchMeta:
    """Some rows of a batch, with the batch's own further information."""
    keys, tags = [batch.keys[i] for i in rows], [batch.tags[i] for i in rows]
    return KVBatchMeta(keys=keys, tags=tags, partition_id=batch.partition_id, extra_info=dict(batch.extra_info))
