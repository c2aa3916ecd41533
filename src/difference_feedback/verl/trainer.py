"""verl's synchronous trainer on pairs: correct answers leave, repairs enter, advantages are weighted. [DF, Eqs. 14-28]

The order of a step is verl's own. Three places are overridden:

    _balance_batch        rows that leave the optimisation group are cleared from the queue
    _compute_advantage    verl's advantages, times the weights (GAE whitens before)
    _update_actor         as many optimiser steps as configured, and means over real rows, whatever `2|Y⁻|` is
"""

import math
from pathlib import Path
from typing import Any

import ray
import torch
import transfer_queue as tq
from safetensors.torch import save_file
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.metric import reduce_metrics
from verl.utils.py_functional import rename_dict

from difference_feedback.errors import DataError
from difference_feedback.method.weighting import gate_advantages
from difference_feedback.verl import repair_actor
from difference_feedback.verl.settings import by_critic, settings_of


class DFTrainer(PPOTrainerSync):
    """`PPOTrainerSync` with Difference Feedback, for a configuration that has its block."""

    def _setup(self) -> None:
        settings = settings_of(self.config)
        assert settings is not None
        self.settings = settings
        self.by_critic = by_critic(self.config)
        super()._setup()
        rollout = self.config.actor_rollout_ref.rollout
        self.repairer = repair_actor.start(settings, self.config.actor_rollout_ref.model.path, rollout.response_length)

    # ---- which rows ----

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict[str, Any], **kwargs: Any) -> KVBatchMeta:
        metrics.update(self._count(batch))
        metrics["df/answers_of_failed_prompts"] = sum("df_role" not in tag for tag in batch.tags)
        if metrics["df/answers_of_failed_prompts"] == len(batch):
            raise DataError("every prompt of the batch failed: verl's log says why, at 'Error in _run_prompt'.")
        metrics["df/seconds/repair"] = ray.get(self.repairer.take_seconds.remote())
        self._no_pairs = False
        if not self.by_critic:
            stay = [i for i, tag in enumerate(batch.tags) if tag.get("df_role") in ("answer", "repair")]
            if not stay:  # nothing to learn from in this batch; verl still needs a row to go through the step with
                self._no_pairs, stay = True, [0]
            left = sorted(set(range(len(batch))) - set(stay))
            if left:
                tq.kv_clear(keys=[batch.keys[i] for i in left], partition_id=batch.partition_id)
            extra = dict(batch.extra_info)
            batch = KVBatchMeta(
                partition_id=batch.partition_id,
                keys=[batch.keys[i] for i in stay],
                tags=[batch.tags[i] for i in stay],
            )
            batch.extra_info = extra
        # Groups of which an answer failed were never completed, and have no weights: they leave the update.
        lone = [i for i, tag in enumerate(batch.tags) if "df_role" not in tag]
        if lone:
            lengths = [batch.tags[i]["response_len"] for i in lone]
            self._put(batch, [torch.zeros(n) for n in lengths], "df_weights", [batch.keys[i] for i in lone])
        batch = super()._balance_batch(batch, metrics=metrics, **kwargs)
        metrics["df/rows"] = sum(not tag.get("is_padding", False) for tag in batch.tags)
        metrics["df/padding_rows"] = len(batch.keys) - metrics["df/rows"]
        return batch

    def _count(self, batch: KVBatchMeta) -> dict[str, float]:
        """Metrics of all answers, also of those that leave."""
        total: dict[str, float] = {}
        for tag in batch.tags:
            for name, value in tag.items():
                if name.startswith("df_count/"):
                    total[name.removeprefix("df_count/")] = total.get(name.removeprefix("df_count/"), 0.0) + value
        rewards = [
            tag["df_reward"]
            for tag in batch.tags
            if tag.get("df_role") != "repair" and tag.get("df_reward") is not None
        ]
        counted = {f"df/{name}": value for name, value in total.items() if name != "edit_cost"}
        if rewards:
            counted["df/reward_of_answers"] = sum(rewards) / len(rewards)
        if total.get("requested"):
            counted["df/feasible_share"] = total["pairs"] / total["requested"]
        if total.get("pairs"):
            counted["df/edit_cost"] = total["edit_cost"] / total["pairs"]
        return counted

    def _get_required_batch_multiple(self, dp_size: int) -> int:
        """The batch is padded to whole micro-batches per rank and optimiser step, not to configured mini-batches."""
        if self.by_critic:
            return super()._get_required_batch_multiple(dp_size)
        config = self.config.actor_rollout_ref
        forward = [part for part in (config.rollout, config.ref) if not part.log_prob_use_dynamic_bsz]
        sizes = [part.log_prob_micro_batch_size_per_gpu for part in forward]
        own = 1 if config.actor.use_dynamic_bsz else config.actor.ppo_micro_batch_size_per_gpu or 1
        return dp_size * math.lcm(self._optimiser_steps * own, *(size or 1 for size in sizes))

    @property
    def _optimiser_steps(self) -> int:
        """Per epoch over a batch: prompts by prompts of a mini-batch, as it would be without pairs."""
        actor = self.config.actor_rollout_ref.actor
        return max(1, math.ceil(self.config.data.train_batch_size / actor.ppo_mini_batch_size))

    # ---- log-probabilities and advantages ----

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """Repairs get the actor's log-probabilities like all rows; they also stand in for those of a rollout engine."""
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
        weighted, weights = [], []
        for i, tag in enumerate(batch.tags):
            advantage = data["advantages"][i]
            padding = tag.get("is_padding", False)
            own = torch.zeros_like(advantage) if padding else data["df_weights"][i].to(advantage.dtype)
            weights.append(own)
            weighted.append(gate_advantages(advantage[None], own[None])[0])
        metrics["df/weighted_tokens"] = sum(float((own > 0).sum()) for own in weights)
        metrics["df/weight_density"] = metrics["df/weighted_tokens"] / max(1, sum(int(own.numel()) for own in weights))
        if self.settings.dump:
            self._dump(batch, data, weights)
        self._put(batch, weighted, "advantages")
        return batch

    # ---- update ----

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """With a critic it is verl's. On pairs, `2|Y⁻|` varies: the batch is cut into the configured number of
        optimiser steps, and row means divide by real rows: padding takes nothing from the gradient."""
        if self.by_critic:
            return super()._update_actor(batch, metrics)
        if self._no_pairs:
            return batch  # an update without gradients would still move the weights by the optimiser's moments
        actor = self.config.actor_rollout_ref.actor
        mini_batch = len(batch.keys) // self._optimiser_steps
        real = metrics["df/rows"] / self._optimiser_steps
        batch.extra_info.update(
            {
                "calculate_entropy": actor.calculate_entropy or actor.entropy_coeff != 0.0,
                "distillation_use_topk": False,
                "distillation_only": False,
                "global_batch_size": real,
                "mini_batch_size": mini_batch,
                "epochs": actor.ppo_epochs,
                "seed": actor.data_loader_seed,
                "dataloader_kwargs": {"shuffle": actor.shuffle},
                "temperature": self.config.actor_rollout_ref.rollout.temperature,
            }
        )
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
