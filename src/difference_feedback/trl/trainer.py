"""DF-GRPO in TRL: between TRL's sampling and TRL's loss, wrong answers are repaired and the gate is made.

TRL samples, grades, and computes the loss. This class repairs the wrong answers, scores the repairs with the same
reward functions, aligns, and hands TRL a batch of wrong answers and repairs instead of the rollouts. `gate.py` says how
the gate reaches the loss.
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import nn
from transformers import PreTrainedModel
from trl import GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method.cost import CostMeter, Counts
from difference_feedback.method.limits import Limits
from difference_feedback.method.repairs import Repairer
from difference_feedback.method.selection import feasible_candidates
from difference_feedback.models.vision_tokens import suppressed, vision_token_ids, with_logit_bias
from difference_feedback.trl.candidates import Candidates, ask, with_siblings
from difference_feedback.trl.config import DFGRPOConfig
from difference_feedback.trl.objective import BATCH_MEAN_LOSSES, ROW_MEAN_LOSSES
from difference_feedback.trl.pair_batch import (
    FORWARD_FIELDS,
    Member,
    build_batch,
    rows_per_rank,
    weigh_rollouts,
)
from difference_feedback.trl.pair_metrics import count_pairs, pair_metrics
from difference_feedback.trl.pairing import choose_repairs, describe_pairs, members_here, optimisation_group
from difference_feedback.trl.references import References, choose_references
from difference_feedback.trl.refusals import refuse_foreign_rollouts, refuse_shared_shards
from difference_feedback.trl.resume import ExactResume
from difference_feedback.trl.rollouts import Rollouts, annotated_answers, total_rewards
from difference_feedback.trl.step_hooks import StepHooks
from difference_feedback.trl.weighted_loss import WeightedLoss


class DFGRPOTrainer(ExactResume):
    """`trl.GRPOTrainer` with Difference Feedback: the same constructor, and a `repairer`. [DF, Eqs. 11-23]

    `args` is a `DFGRPOConfig`; prompts must be chat conversations. `repairer` repairs wrong answers; it is needed
    unless `weights="ones"` and `regroup=False`. `last_pairs` holds this rank's pairs of the latest generation step, for
    reports. Metrics go through TRL's logging under `df/`.
    """

    args: DFGRPOConfig
    processing_class: Any
    pad_to_multiple_of: Any
    _logs: dict[str, Any]

    def __init__(
        self,
        model: str | PreTrainedModel,
        reward_funcs: Any,
        args: DFGRPOConfig | None = None,
        *trl_args: Any,
        repairer: Repairer | None = None,
        **trl_kwargs: Any,
    ) -> None:
        args = DFGRPOConfig(output_dir="df-grpo") if args is None else args
        if not isinstance(args, DFGRPOConfig):
            raise ConfigError(f"args is a {type(args).__name__}; DFGRPOTrainer needs a DFGRPOConfig.")
        if args.needs_repairer and repairer is None:
            raise ConfigError("Pass a repairer, or set weights='ones' and regroup=False for plain GRPO.")
        refuse_foreign_rollouts(trl_kwargs)
        super().__init__(model, reward_funcs, args, *trl_args, **trl_kwargs)
        if self.aux_loss_enabled:
            raise ConfigError("A router's auxiliary loss would be scaled with the filler rows: router_aux_loss_coef=0.")
        plugin = getattr(self.accelerator.state, "deepspeed_plugin", None)
        zero_stage = plugin.zero_stage if plugin else 0
        refuse_shared_shards(repairer, self.model, self.accelerator.distributed_type, zero_stage)
        self.repairer = repairer
        self.last_pairs: list[dict[str, Any]] = []
        self.cost = CostMeter()
        self._rollouts: Rollouts | None = None
        self._defer_logps = False
        self._weighted_loss: WeightedLoss | None = None
        self._suppress_vision_tokens()
        self.add_callback(StepHooks(self))

    # ---- generation step ----

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.model.training:
            return super()._generate_and_score_completions(inputs)
        with self.cost.measure("rollout"):
            # The rollouts that leave the group need no log-probabilities, and the repairs do not exist yet.
            self._defer_logps = self.args.regroup and not self._corrects_sampler
            try:
                batch = super()._generate_and_score_completions(inputs)
            finally:
                self._defer_logps = False
        rollouts = self._rollouts
        assert rollouts is not None
        judged = int(np.isfinite(rollouts.rewards).sum())
        wrong = int((np.isfinite(rollouts.rewards) & (rollouts.rewards < self.args.reward_threshold)).sum())
        own = rollouts.own_rewards[np.isfinite(rollouts.own_rewards)]
        own_wrong = int((own < self.args.reward_threshold).sum())
        self.cost.window.counts += Counts(len(rollouts.own_rewards), len(own), own_wrong)
        self._note({"wrong_share": wrong / judged if judged else 0.0, "unjudged": len(rollouts.rewards) - judged})
        batch["loss_scale"] = torch.ones((), device=self.accelerator.device)
        batch["weights"] = torch.ones_like(batch["completion_mask"], dtype=torch.float32)
        return self._difference_feedback(batch, rollouts) if self.args.makes_pairs else batch

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[Any], completions: list[Any], completion_ids_list: list[Any]
    ) -> torch.Tensor:
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self.model.training:
            if self.args.makes_pairs and isinstance(prompts[0], str):
                raise DataError("field 'prompt': a repair extends a conversation; give prompts as lists of messages.")
            offset = self.accelerator.process_index * len(prompts)
            totals = total_rewards(rewards, self.reward_weights)
            self._rollouts = Rollouts(inputs, prompts, completions, completion_ids_list, totals, offset)
        return rewards

    def _difference_feedback(self, batch: dict[str, Any], rollouts: Rollouts) -> dict[str, Any]:
        """Repair, pair and gate: TRL's batch of rollouts -> the batch that its loss reads."""
        args, group_size = self.args, self.num_generations
        with self.cost.measure("repair"):
            references = self._choose_references(rollouts)
            requested = {row - rollouts.offset: text for row, text in references.texts.items()}
            requested = {row: text for row, text in requested.items() if 0 <= row < len(rollouts.prompts)}
            candidates = self._ask(rollouts, requested)
            rewards = self._score(rollouts, candidates)
            self.cost.window.counts += Counts(repaired=len(requested))
            if args.sibling_repairs:
                every = gather_object(rollouts.completion_ids)
                candidates, rewards = with_siblings(
                    *(candidates, rewards, requested, rollouts.offset),
                    *(every, rollouts.rewards, group_size, args.reward_threshold),
                )
            gates = self._plausible(batch, candidates, rewards)
        with self.cost.measure("align"):
            repaired = choose_repairs(rollouts, candidates, rewards, gates, args)
            repair_rewards = gather_object([(rollouts.offset + row, r.reward) for row, r in repaired.items()])
            places = optimisation_group(rollouts.rewards, references.texts, dict(repair_rewards), group_size, args)
            members = list(members_here(places, rollouts, repaired, args, self._token_texts))
            if args.regroup:
                ranks = [place.row // len(rollouts.prompts) for place in places]
                batch = self._regroup(batch, members, [ranks.count(r) for r in range(self.accelerator.num_processes)])
            else:
                wrong = np.flatnonzero(rollouts.own_rewards < args.reward_threshold).tolist()
                batch["weights"] = weigh_rollouts(batch, members, wrong, args.empty_feasible == "broadcast")
            self.last_pairs = describe_pairs(members, rollouts, repaired, group_size)
            fillers = len(batch["prompt_ids"]) - len(members) if args.regroup else 0
            counts = gather_object([count_pairs(len(requested), candidates, repaired, members, fillers)])
            barren = {row // group_size for row in references.texts} - {row // group_size for row, _ in repair_rewards}
            self._note(pair_metrics(counts, references.skipped, len(barren)))
            self._log_repairs(members, rollouts)
        if args.length_norm == "weights" and self.loss_type in BATCH_MEAN_LOSSES:
            batch["num_items_in_batch"] = self.accelerator.gather(batch["weights"].sum()).sum()
        return batch

    # ---- repairs ----

    def _choose_references(self, rollouts: Rollouts) -> References:
        answers = annotated_answers(rollouts.examples, self.args.answer_column)
        shared = gather_object(list(zip(rollouts.texts, answers, strict=True)))
        # Seeded by the place in the run, so that a resumed run draws as an uninterrupted one.
        rng = np.random.default_rng([self.args.reference_seed, self._step])
        return choose_references(
            *(rollouts.rewards, [text for text, _ in shared], [answer for _, answer in shared], self.num_generations),
            *(self.args.reward_threshold, self.args.reference, rng),
        )

    def _ask(self, rollouts: Rollouts, requested: dict[int, str]) -> Candidates:
        if not self.args.needs_repairer:
            return Candidates()
        assert self.repairer is not None
        if hasattr(self.repairer, "calls"):  # it numbers its calls to draw by; the number here survives resuming
            self.repairer.calls = self._step // self._generate_every
        was_training = self.model.training
        candidates = ask(self.repairer, rollouts, requested, self.args.num_repairs, self._limits)
        self.model.train(was_training)  # a repairer that shares the weights may have left them in evaluation mode
        return candidates

    def _score(self, rollouts: Rollouts, candidates: Candidates) -> list[float]:
        """Grade repairs with the reward functions that graded the rollouts; in the order of `candidates.flat()`."""
        own = candidates.flat()
        count = max(gather_object([len(own)]))
        if not count:
            return []
        # Scoring ends in a gather, so every rank scores equally many: a rollout fills up.
        rows, token_ids = zip(*own, *[(0, rollouts.completion_ids[0])] * (count - len(own)), strict=True)
        texts = self.processing_class.batch_decode(list(token_ids), skip_special_tokens=True)
        completions = [[{"role": "assistant", "content": text}] for text in texts]
        examples, prompts = [rollouts.examples[row] for row in rows], [rollouts.prompts[row] for row in rows]
        # What reward functions log about repairs would misalign TRL's table of rollouts.
        pending = self._pending_extra_logs, self._pending_metrics
        self._pending_extra_logs, self._pending_metrics = defaultdict(list), defaultdict(list)
        try:
            # TRL's own: what watches the policy's answers is not to see repairs.
            rewards = GRPOTrainer._calculate_rewards(self, examples, prompts, completions, list(token_ids))
        finally:
            self._pending_extra_logs, self._pending_metrics = pending
        start = self.accelerator.process_index * count
        return total_rewards(rewards, self.reward_weights)[start : start + len(own)].tolist()

    def _plausible(self, batch: dict[str, Any], candidates: Candidates, rewards: list[float]) -> list[bool]:
        """Gates of the candidates: shut for a right one with a token less probable to the policy than is asked for."""
        gates = [True] * len(rewards)
        if self.args.min_probability == 0:
            return gates
        right, own = feasible_candidates(rewards, self.args.reward_threshold), candidates.flat()
        sizes = gather_object([len(right)])
        if not max(sizes):
            return gates
        members = [Member(*own[i], np.ones(len(own[i][1]), np.float32), 0.0, 0.0, is_repair=True) for i in right]
        scored = self._rows(batch, members, rows_per_rank(sizes, self._steps_per_generation))
        checkpointing: Any = self.args.gradient_checkpointing_kwargs
        with torch.no_grad(), disable_gradient_checkpointing(self.model, checkpointing):
            logps = self._logps(self.model, scored)
        lowest = logps.masked_fill(scored["completion_mask"] == 0, 0.0).amin(dim=1).exp().tolist()
        for i, probability in zip(right, lowest, strict=False):  # filler rows follow
            gates[i] = probability >= self.args.min_probability
        self._note({"implausible": sum(gather_object([gates.count(False)]))})
        return gates

    # ---- batch ----

    def _regroup(self, batch: dict[str, Any], members: list[Member], rank_sizes: list[int]) -> dict[str, Any]:
        """Put the members in place of the rollouts, with the log-probabilities that the loss will read."""
        num_rows = rows_per_rank(rank_sizes, self._steps_per_generation)
        batch = self._rows(batch, members, num_rows)
        batch["num_items_in_batch"] = self.accelerator.gather(batch["completion_mask"].sum()).sum()
        total: int = np.sum(rank_sizes).item()
        if self.loss_type in ROW_MEAN_LOSSES and total:
            # TRL's mean runs over filler rows as well; this makes it the mean over members.
            batch["loss_scale"] *= len(rank_sizes) * num_rows / total
        with self.cost.measure("update"):
            self._score_policy(batch)
        return batch

    def _rows(self, batch: dict[str, Any], members: list[Member], num_rows: int) -> dict[str, Any]:
        return build_batch(batch, members, num_rows, self._tokenizer.pad_token_id, self.pad_to_multiple_of)

    def _score_policy(self, batch: dict[str, Any]) -> None:
        """Old and reference log-probabilities of the members, under the policy's own prompt, where TRL needs them."""
        checkpointing: Any = self.args.gradient_checkpointing_kwargs
        with torch.no_grad(), disable_gradient_checkpointing(self.model, checkpointing):
            if self.args.gradient_accumulation_steps % self._generate_every != 0 or self._corrects_sampler:
                batch["old_per_token_logps"] = self._logps(self.model, batch)
            if self.beta == 0.0:
                return
            if self.ref_model is not None:
                batch["ref_per_token_logps"] = self._logps(self.ref_model, batch)
            else:
                policy = self.accelerator.unwrap_model(self.model)
                with use_adapter(policy, adapter_name="ref" if "ref" in policy.peft_config else None):
                    batch["ref_per_token_logps"] = self._logps(self.model, batch)

    def _logps(self, model: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        fields = {name: batch[name] for name in FORWARD_FIELDS if name in batch}
        rows = len(ids) // self._steps_per_generation
        width = batch["completion_ids"].size(1)
        return self._get_per_token_logps_and_entropies(model, ids, mask, width, batch_size=rows, **fields)[0]

    # ---- loss ----

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        if "weights" not in inputs:  # evaluation
            return super()._compute_loss(model, inputs)
        by_weights = self.args.length_norm == "weights" and self.loss_type in ROW_MEAN_LOSSES
        self._weighted_loss = WeightedLoss(inputs, self.args.objective == "gspo", by_weights, self.args.repaired_ratio)
        try:
            return super()._compute_loss(model, self._weighted_loss.inputs) * inputs["loss_scale"]
        finally:
            self._weighted_loss = None

    def _get_per_token_logps_and_entropies(
        self,
        model: nn.Module,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        if self._defer_logps:
            return torch.zeros(len(input_ids), logits_to_keep, device=input_ids.device), None, None
        logps, entropies, aux_loss = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
        )
        return logps if self._weighted_loss is None else self._weighted_loss.apply(logps), entropies, aux_loss

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self.cost.measure("update"):
            return super().training_step(*args, **kwargs)

    # ---- small parts ----

    @property
    def _corrects_sampler(self) -> bool:
        return self.use_vllm and self.vllm_importance_sampling_correction

    def _token_texts(self, token_ids: Sequence[int]) -> list[str]:
        return [self._tokenizer.decode([i]) for i in token_ids]

    def _suppress_vision_tokens(self) -> None:
        """A sampled vision token would no longer match the image features; TRL suppresses the image token alone."""
        vision = vision_token_ids(self.model.config, self._tokenizer)
        vocabulary = self.model.config.get_text_config().vocab_size
        self._limits = Limits(vision, vocabulary, self.max_completion_length or sys.maxsize)
        if not vision:
            return
        users: Any = self.args.generation_kwargs
        if self.use_vllm:
            self.vllm_generation.generation_kwargs = with_logit_bias(users, vision)
        else:
            self.generation_kwargs["suppress_tokens"] = suppressed(users, vision)
            self.generation_config.suppress_tokens = self.generation_kwargs["suppress_tokens"]

    def _note(self, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._metrics["train"][f"df/{name}"].append(float(value))

    def _log_repairs(self, members: list[Member], rollouts: Rollouts) -> None:
        """TRL's table of completions: the advantages of this group, 0 for answers that left it, and the repairs."""
        if not (self.log_completions and self.args.regroup):
            return
        advantages, repairs = [0.0] * len(rollouts.prompts), [""] * len(rollouts.prompts)
        for member in members:
            if member.is_repair:
                repairs[member.row] = self._tokenizer.decode(member.token_ids, skip_special_tokens=True)
            else:
                advantages[member.row] = member.advantage
        for _ in rollouts.rewards:
            self._logs["advantages"].pop()
        self._logs["advantages"].extend(gather_object(advantages))
        self._logs["extra"]["repair"].extend(gather_object(repairs))

    def close_cost_window(self) -> None:
        """Called after every optimiser step; a window ends with the last step on one batch of rollouts."""
        self.cost.window.steps += 1
        if self._step % self._generate_every == 0:
            self._note(self.cost.close_window(gather_object).metrics(self.args.num_repairs))
