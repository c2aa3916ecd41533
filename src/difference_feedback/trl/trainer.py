"""DF-GRPO in TRL: between TRL's sampling and TRL's loss, wrong answers are repaired and tokens get weights.

A generation step, in the order of the methods below:

    _generate_and_score_completions   TRL samples and grades, then `_difference_feedback`:
      _choose_references                a right answer for every wrong one, over all ranks
      _sample_repairs, _grade           candidates from the repair model, graded by TRL's reward functions
      _measure_plausibility             the policy's probability of them, where `min_probability` is set
      choose_pair, rows_of_all          the method: `method.pairs`
      _regroup                          wrong answers and repairs in place of the rollouts
      _weigh_drafts                     or, with `log_ratio` and `doubt`, weights of wrong answers without any repair
    _compute_loss                     TRL's own, on weighted inputs: `weighted_loss.py`

Three fields carry a value through a method of TRL's that has no argument for it. They rely on TRL's order of calls:

    _defer_logps     set while TRL samples and grades: log-probabilities requested then are of rows that leave
    _rollouts        set by `_calculate_rewards`, which TRL calls in `_generate_and_score_completions`; read after it
    _weighted_loss   set while TRL computes the loss: log-probabilities requested then get weighted gradients
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import nn
from transformers import PreTrainedModel
from trl import GRPOTrainer

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method.cost import CostMeter, Counts
from difference_feedback.method.draft_scores import draft_weights
from difference_feedback.method.groups import SkipReason, split_by_reward
from difference_feedback.method.pairs import Answer, Member, choose_pair
from difference_feedback.method.repairs import Repair, Repairer
from difference_feedback.method.token_texts import token_texts
from difference_feedback.trl.callbacks import StepHooks
from difference_feedback.trl.config import DFGRPOConfig, refuse_shared_shards
from difference_feedback.trl.draft_scores import (
    ScoredDraft,
    describe_drafts,
    draft_metrics,
    draft_sums,
    refuse_unscorable,
    score_drafts,
    scored_members,
)
from difference_feedback.trl.metrics import count_pairs, describe_pairs, log_repairs, pair_metrics
from difference_feedback.trl.objective import BATCH_MEAN_LOSSES, ROW_MEAN_LOSSES
from difference_feedback.trl.pair_batch import (
    members_here,
    rows_of_all,
    rows_per_rank,
    weigh_rollouts,
)
from difference_feedback.trl.policy_logps import PolicyLogps
from difference_feedback.trl.precision import compute_dtype, refuse_low_precision
from difference_feedback.trl.rollouts import (
    Rollouts,
    annotated_answers,
    completions_of,
    keep_to_text,
    references_of_all,
    sample_repairs,
    total_rewards,
)
from difference_feedback.trl.weighted_loss import WeightedLoss


class DFGRPOTrainer(PolicyLogps):
    """`trl.GRPOTrainer` with Difference Feedback: the same constructor, and a `repairer`. [DF, Eqs. 11-23]

    `args` is a `DFGRPOConfig`; prompts must be chat conversations. `repairer` repairs wrong answers; it is needed
    unless `weights="ones"` and `regroup=False`. `last_pairs` holds this rank's pairs of the latest generation step, for
    reports. Metrics go through TRL's logging under `df/`.
    """

    args: DFGRPOConfig
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
            raise ConfigError("repairer is missing: pass one, or set weights='ones' and regroup=False for plain GRPO.")
        for name in ("tools", "environment_factory", "rollout_func"):
            if trl_kwargs.get(name):
                raise ConfigError(f"{name}: answers with tool calls or from elsewhere are not repaired; leave it out.")
        super().__init__(model, reward_funcs, args, *trl_args, **trl_kwargs)
        if self.aux_loss_enabled:
            raise ConfigError("router_aux_loss_coef: filler rows would scale the auxiliary loss; set it to 0.")
        plugin = getattr(self.accelerator.state, "deepspeed_plugin", None)
        zero_stage = plugin.zero_stage if plugin else 0
        refuse_shared_shards(repairer, self.model, self.accelerator.distributed_type, zero_stage)
        refuse_low_precision(self.model, self.is_deepspeed_enabled or self.is_fsdp_enabled)
        if args.scores_drafts:
            refuse_unscorable(repairer, self._tokenizer, args.weights)
        self.repairer = repairer
        if adopt := getattr(repairer, "adopt", None):  # what its user left open
            adopt(self.accelerator.device, compute_dtype(self), self.max_completion_length)
        self.last_pairs: list[dict[str, Any]] = []
        self.cost = CostMeter()
        self._rollouts: Rollouts | None = None
        self._defer_logps = False
        self._weighted_loss: WeightedLoss | None = None
        self._limits = keep_to_text(self)
        self.add_callback(StepHooks(self))

    # ---- generation step ----

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.model.training:
            batch = super()._generate_and_score_completions(inputs)
            if self._logs_repairs:
                self._logs["extra"]["repair"].extend(gather_object([""] * len(inputs)))
            return batch
        with self.cost.measure("rollout"):
            # Rollouts that leave the group need no log-probabilities, and the repairs do not exist yet.
            self._defer_logps = self.args.regroup and not self._corrects_sampler
            try:
                batch = super()._generate_and_score_completions(inputs)
            finally:
                self._defer_logps = False
        rollouts = self._rollouts
        assert rollouts is not None
        everywhere, here = (
            split_by_reward(rewards, self.args.reward_threshold) for rewards in (rollouts.rewards, rollouts.own_rewards)
        )
        judged = len(everywhere.correct) + len(everywhere.wrong)
        self._note({"wrong_share": len(everywhere.wrong) / max(judged, 1), "unjudged": len(everywhere.unjudged)})
        self.cost.window.counts += Counts(sum(map(len, here)), len(here.correct) + len(here.wrong), len(here.wrong))
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
            offset, totals = self.accelerator.process_index * len(prompts), total_rewards(rewards, self.reward_weights)
            # Whole, as repairs are: TRL's completions may be without the reasoning.
            texts = self.processing_class.batch_decode(completion_ids_list, skip_special_tokens=True)
            self._rollouts = Rollouts(inputs, prompts, texts, completion_ids_list, totals, offset)
        return rewards

    def _difference_feedback(self, batch: dict[str, Any], rollouts: Rollouts) -> dict[str, Any]:
        """Repair, pair and weigh: TRL's batch of rollouts -> the batch that its loss reads."""
        if self.args.scores_drafts:
            return self._weigh_drafts(batch, rollouts)
        args, group_size, offset = self.args, self.num_generations, rollouts.offset
        with self.cost.measure("repair"):
            references, skipped = self._choose_references(rollouts)
            here = range(offset, offset + len(rollouts.prompts))
            requested = {row - offset: text for row, text in references.items() if row in here}
            repairs, refused = self._sample_repairs(rollouts, requested)
            graded = self._grade(batch, rollouts, repairs)
            self.cost.window.counts += Counts(repaired=len(requested))
            siblings = self._right_answers(rollouts)
            candidates = {row: graded.get(row, []) + siblings[(offset + row) // group_size] for row in requested}
            self._measure_plausibility(batch, candidates)
        with self.cost.measure("align"):
            drafts, texts = rollouts.completion_ids, token_texts(self._tokenizer)
            chosen = {row: choose_pair(drafts[row], candidates[row], [offset + row], args, texts) for row in candidates}
            pairs = {row: pair for row, pair in chosen.items() if pair is not None}
            repair_rewards = dict(gather_object([(offset + row, pair.repair.reward) for row, pair in pairs.items()]))
            rows = rows_of_all(rollouts.rewards, references, repair_rewards, group_size, args)
            members = members_here(rows, rollouts, pairs)
            fillers = 0
            if args.regroup:
                ranks = Counter(row.rollout // len(rollouts.prompts) for row in rows)
                batch = self._regroup(batch, members, [ranks[r] for r in range(self.accelerator.num_processes)])
                fillers = int((batch["completion_mask"].sum(1) == 0).sum())
            else:
                batch["weights"] = weigh_rollouts(batch, members)
                self._count_items(batch)
            self.last_pairs = describe_pairs(members, rollouts, pairs, group_size)
            more = {"requested": len(requested), "filler_rows": fillers}
            if requested:  # else the tally is an earlier call's
                more |= {f"speculated/{k}": n for k, n in getattr(self.repairer, "tally", {}).items()}
            counts = count_pairs(repairs, refused, pairs, **more)
            unrepaired = {row // group_size for row in references} - {row // group_size for row in repair_rewards}
            self._note(pair_metrics(gather_object([counts]), skipped, len(unrepaired)))
            if self._logs_repairs:
                log_repairs(self._logs, members, rollouts, self._tokenizer)
        return batch

    # ---- repairs ----

    def _choose_references(self, rollouts: Rollouts) -> tuple[dict[int, str], Counter[SkipReason]]:
        annotated = annotated_answers(rollouts.examples, self.args.answer_column)
        texts, answers = zip(*gather_object(list(zip(rollouts.texts, annotated, strict=True))), strict=True)
        # Seeded by the place in the run, so that a resumed run draws as an uninterrupted one.
        rng = np.random.default_rng([self.args.reference_seed, self._step])
        return references_of_all(rollouts.rewards, texts, answers, self.num_generations, self.args, rng)

    def _sample_repairs(
        self, rollouts: Rollouts, requested: Mapping[int, str]
    ) -> tuple[dict[int, list[Repair]], Counter[str]]:
        if not self.args.needs_repairer:
            return {}, Counter()
        assert self.repairer is not None
        if hasattr(self.repairer, "calls"):  # it numbers its calls to draw by; the number here survives resuming
            self.repairer.calls = self._step // self._generate_every
        was_training = self.model.training
        repairs, refused = sample_repairs(self.repairer, rollouts, requested, self.args.num_repairs, self._limits)
        self.model.train(was_training)  # a repairer that shares the weights may have left them in evaluation mode
        return repairs, refused

    def _grade(
        self, batch: dict[str, Any], rollouts: Rollouts, repairs: Mapping[int, Sequence[Repair]]
    ) -> dict[int, list[Answer]]:
        """Grade repairs, by row, with the reward functions that graded the rollouts."""
        flat = [(row, repair.token_ids) for row, candidates in repairs.items() for repair in candidates]
        count = max(gather_object([len(flat)]))
        if not count:
            return {}
        # Scoring ends in a gather, so every rank scores equally many: copies of a rollout fill up.
        rows, token_ids = zip(*flat, *[(0, rollouts.completion_ids[0])] * (count - len(flat)), strict=True)
        completions = completions_of(self, batch, rows, token_ids)
        examples, prompts = [rollouts.examples[row] for row in rows], [rollouts.prompts[row] for row in rows]
        # What reward functions log about repairs would misalign TRL's table of rollouts.
        pending = self._pending_extra_logs, self._pending_metrics
        self._pending_extra_logs, self._pending_metrics = defaultdict(list), defaultdict(list)
        try:
            # TRL's own method: `watch` sees only the policy's answers, not repairs.
            rewards = GRPOTrainer._calculate_rewards(self, examples, prompts, completions, list(token_ids))
        finally:
            self._pending_extra_logs, self._pending_metrics = pending
        start = self.accelerator.process_index * count
        graded: dict[int, list[Answer]] = {}
        for (row, ids), reward in zip(flat, total_rewards(rewards, self.reward_weights)[start:].tolist(), strict=False):
            graded.setdefault(row, []).append(Answer([int(i) for i in ids], reward))
        return graded

    def _right_answers(self, rollouts: Rollouts) -> defaultdict[int, list[Answer]]:
        """With `sibling_repairs`, the right answers to every prompt over all ranks: candidates for the wrong ones."""
        answers: defaultdict[int, list[Answer]] = defaultdict(list)
        if self.args.sibling_repairs:
            token_ids, rewards = gather_object(rollouts.completion_ids), rollouts.rewards.tolist()
            for i in split_by_reward(rollouts.rewards, self.args.reward_threshold).correct.tolist():
                answers[i // self.num_generations].append(Answer(token_ids[i], rewards[i]))
        return answers

    def _measure_plausibility(self, batch: dict[str, Any], candidates: dict[int, list[Answer]]) -> None:
        """Store with each right candidate the policy's probability of its least probable token."""
        if self.args.min_probability == 0:
            return
        rewards = {row: [answer.reward for answer in answers] for row, answers in candidates.items()}
        threshold = self.args.reward_threshold
        right = [(row, i) for row in candidates for i in split_by_reward(rewards[row], threshold).correct.tolist()]
        logps = self._logps_of(batch, [(row, candidates[row][i].token_ids) for row, i in right])
        if logps is None:
            return
        lowest = [float(of_answer.min().exp()) for of_answer in logps]
        for (row, i), probability in zip(right, lowest, strict=True):
            candidates[row][i] = replace(candidates[row][i], lowest_probability=probability)
        implausible = sum(probability < self.args.min_probability for probability in lowest)
        self._note({"implausible": sum(gather_object([implausible]))})

    # ---- scores in place of repairs ----

    def _weigh_drafts(self, batch: dict[str, Any], rollouts: Rollouts) -> dict[str, Any]:
        """Weigh wrong answers by the repair model's probabilities of their tokens; the group stays as it is."""
        args, group_size, offset = self.args, self.num_generations, rollouts.offset
        scorer: Any = self.repairer
        with self.cost.measure("repair"):
            references, skipped = self._choose_references(rollouts)
            here = range(offset, offset + len(rollouts.prompts))
            requested = {row - offset: text for row, text in references.items() if row in here}
            logps = score_drafts(scorer, rollouts, requested, self.temperature)
            self.cost.window.counts += Counts(repaired=len(requested))
            by_policy = args.weights == "log_ratio"
            known = self._policy_scores(batch, rollouts, list(logps)) if by_policy else dict.fromkeys(logps)
        with self.cost.measure("align"):
            scored = {row: ScoredDraft(logps[row], known[row], draft_weights(logps[row], known[row])) for row in logps}
            everywhere = gather_object([offset + row for row in scored])
            rows = rows_of_all(rollouts.rewards, references, dict.fromkeys(everywhere), group_size, args)
            members = scored_members(rows, rollouts, scored)
            batch["weights"] = weigh_rollouts(batch, members)
            self._count_items(batch)
            self.last_pairs = describe_drafts(members, rollouts, scored, group_size)
            sums = gather_object([draft_sums(scored, len(requested))])
            self._note(draft_metrics(sums, skipped, by_policy))
        return batch

    # ---- batch ----

    def _regroup(self, batch: dict[str, Any], members: list[Member], rank_sizes: list[int]) -> dict[str, Any]:
        """Put the members in place of the rollouts, with the log-probabilities that the loss will read."""
        num_rows = rows_per_rank(rank_sizes, self._steps_per_generation)
        batch = self._rows(batch, members, len(members) + 1 if self.lean else num_rows)
        self._count_items(batch)
        if self.lean:
            batch = self.lean_batch(batch, num_rows, fillers=1)
        total: int = np.sum(rank_sizes).item()
        if self.loss_type in ROW_MEAN_LOSSES and total:
            # TRL's mean includes filler rows; this makes it the mean over members.
            batch["loss_scale"] *= len(rank_sizes) * num_rows / total
        with self.cost.measure("update"):
            self._score_policy(batch)
        return batch

    def _count_items(self, batch: dict[str, Any]) -> None:
        """The divisor of losses that are a mean over the tokens of all rows, on all ranks: TRL's are the rollouts'."""
        by_weights = self.args.length_norm == "weights" and self.loss_type in BATCH_MEAN_LOSSES
        counted = batch["weights" if by_weights else "completion_mask"]
        batch["num_items_in_batch"] = self.accelerator.gather(counted.sum()).sum()

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
        logps, entropies, loss = super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
        )
        return logps if self._weighted_loss is None else self._weighted_loss.apply(logps), entropies, loss

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with self.cost.measure("update"):
            return super().training_step(*args, **kwargs)

    # ---- small parts ----

    @property
    def _logs_repairs(self) -> bool:
        """Whether TRL's table of completions has a column of repairs. Its rows of an evaluation have none."""
        return self.log_completions and self.args.regroup

    def _note(self, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._metrics["train"][f"df/{name}"].append(float(value))

    def close_cost_window(self) -> None:
        """Called after every optimiser step; a window ends with the last step on one batch of rollouts."""
        self.cost.window.steps += 1
        if self._step % self._generate_every == 0:
            self._note(self.cost.close_window(gather_object).metrics(self.args.passes_per_answer))
