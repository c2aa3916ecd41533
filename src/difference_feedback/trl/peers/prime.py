"""PRIME: a process reward model that learns from outcomes alone, online. [arXiv 2502.01456, Algorithm 1]

The process reward model (PRM) and a frozen reference are copies of the policy's start. A generation step, after TRL has
sampled and graded:

    in_range              prompts that are too easy or too hard are left out (the paper's online prompt filtering)
    _process_rewards      one forward pass of PRM and reference: the implicit reward of every token, Eq. 3,
                          and one update of the PRM by cross-entropy on the outcomes
    prime_advantages      leave-one-out advantages of process rewards and outcomes, Eq. 5

TRL's loss then reads an advantage for every token. Prompts that are left out have advantages of 0 and are not replaced.
The paper makes several updates on a batch of answers, of policy and PRM alike; here the policy makes as many as TRL's
settings say, and the PRM one. All of it is the run's own processor time, and memory holds the model three times.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model
from safetensors.torch import load_model, save_model
from torch import nn

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method.groups import least_right
from difference_feedback.trl.image_rows import FORWARD_FIELDS, select_rows
from difference_feedback.trl.peers.prime_advantages import (
    in_range,
    leave_one_out,
    ordered_share,
    prime_advantages,
    prm_loss,
)
from difference_feedback.trl.peers.prime_config import PRIMEConfig
from difference_feedback.trl.precision import refuse_low_precision
from difference_feedback.trl.resume import ExactResume
from difference_feedback.trl.rollouts import total_rewards

WEIGHTS, OPTIMIZER = "prm.safetensors", "prm_optimizer.pt"
"""In a checkpoint: the process reward model, and its optimiser's state as the host saves the policy's."""


class PRIMETrainer(ExactResume):
    """`GRPOTrainer` with PRIME's advantages. `args` is a `PRIMEConfig`. Metrics go through TRL's logging as `prime/`.

    `prm` is the process reward model; None with `prm_beta=0`, which makes it RLOO.
    """

    args: PRIMEConfig
    _logs: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._outcomes = torch.zeros(0)
        self.prm: nn.Module | None = None
        if self.args.prm_beta == 0:
            return
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ConfigError(
                "PRIME: FSDP and DeepSpeed would not shard the process reward model: train on one rank, or on several "
                "that each hold the whole model."
            )
        if is_peft_model(self.model):
            raise ConfigError("PRIME: the process reward model is a copy of the whole model: train without LoRA.")
        refuse_low_precision(self.model, keeps_master=False)
        self.reference = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.prm = copy.deepcopy(self.model).eval()  # no dropout, so that it starts with rewards of exactly 0
        self._trained = [parameter for parameter in self.prm.parameters() if parameter.requires_grad]
        self.prm_optimizer = torch.optim.AdamW(
            self._trained,
            lr=self.args.prm_learning_rate,
            betas=(self.args.adam_beta1, self.args.adam_beta2),
            eps=self.args.adam_epsilon,
            weight_decay=self.args.weight_decay,
        )

    # ---- generation step ----

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        rewards = super()._calculate_rewards(*args, **kwargs)
        self._outcomes = torch.from_numpy(total_rewards(rewards, self.reward_weights)).to(rewards)
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super()._generate_and_score_completions(inputs)
        if self.model.training:
            batch["advantages"] = self._advantages(batch)
            if self.log_completions:
                self._log_advantages(batch)
        return batch

    def _advantages(self, batch: dict[str, Any]) -> torch.Tensor:
        """Of this rank's answers, `(n, T)`. Baselines are of all ranks' `N` answers: a group may straddle ranks."""
        args, size, outcomes = self.args, self.num_generations, self._outcomes
        right = torch.where(
            outcomes.isfinite(), (outcomes >= least_right(args.reward_threshold)).to(outcomes), torch.nan
        )
        kept = in_range(right, size, args.prompt_accuracy_low, args.prompt_accuracy_high)
        outcomes = torch.where(kept, outcomes, torch.nan)
        here = self._rows_here(batch)
        mask = batch["completion_mask"] * batch.get("tool_mask", 1)
        rewards = self._process_rewards(batch, mask, right, kept)
        means = self.accelerator.gather(rewards.sum(1) / mask.sum(1).clamp(min=1))
        means = torch.where(kept, means, torch.nan)
        left_out = (~kept.view(-1, size).any(dim=1)).sum()
        self._metrics["train"]["prime/prompts_left_out"].append(float(left_out))
        return prime_advantages(
            rewards,
            mask,
            leave_one_out(means, size)[here],
            outcomes[here],
            leave_one_out(outcomes, size)[here],
            args.prm_gamma,
        )

    def _rows_here(self, batch: dict[str, Any]) -> slice:
        """The places of this rank's answers among those of all ranks."""
        count, rank = len(batch["prompt_ids"]), self.accelerator.process_index
        return slice(rank * count, (rank + 1) * count)

    # ---- the process reward model ----

    def _process_rewards(
        self, batch: dict[str, Any], mask: torch.Tensor, right: torch.Tensor, kept: torch.Tensor
    ) -> torch.Tensor:
        """Implicit rewards `(n, T)` of this rank's answers by the PRM as it is, which is then updated on them.

        `right` and `kept` `(N,)` are of all ranks. Answers that are not kept have rewards of 0.
        """
        rewards, here = torch.zeros_like(mask, dtype=torch.float32), self._rows_here(batch)
        rows = kept[here].nonzero().squeeze(1)
        losses, count = torch.zeros((), device=rewards.device), kept.sum()
        if self.prm is None or not count:
            return rewards
        for part in rows.split(self.args.per_device_train_batch_size) if len(rows) else ():
            selected = select_rows(batch, part.tolist())
            with torch.no_grad():
                reference = self._answer_logps(self.reference, selected)
            ratios = (self._answer_logps(self.prm, selected) - reference) * mask[part]
            of_part = self.args.prm_beta * ratios.float()
            loss = prm_loss(of_part.sum(1), right[here][part]) / count
            loss.backward()
            losses += loss.detach()
            rewards[part] = of_part.detach()
        self._update_prm()
        self._note_prm(losses, rewards.sum(1), torch.where(kept, right, torch.nan))
        return rewards

    def _answer_logps(self, model: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
        """Log-probabilities `(B, T)` of the answers, at the temperature of sampling as in TRL's loss."""
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        fields = {name: batch[name] for name in FORWARD_FIELDS if name in batch}
        width = batch["completion_ids"].size(1)
        return self._get_per_token_logps_and_entropies(model, ids, mask, width, **fields)[0]

    def _update_prm(self) -> None:
        """One step on the gradients of all ranks."""
        if self.accelerator.num_processes > 1:
            for parameter in self._trained:
                own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.accelerator.reduce(own, reduction="sum")
        if self.args.max_grad_norm:
            nn.utils.clip_grad_norm_(self._trained, self.args.max_grad_norm)
        self.prm_optimizer.step()
        self.prm_optimizer.zero_grad()

    def _note_prm(self, loss: torch.Tensor, answer_rewards: torch.Tensor, right: torch.Tensor) -> None:
        metrics, everywhere = self._metrics["train"], self.accelerator.gather(answer_rewards)
        metrics["prime/prm_loss"].append(float(self.accelerator.reduce(loss, reduction="sum")))
        if (share := ordered_share(everywhere, right, self.num_generations)) is not None:
            metrics["prime/ordered_share"].append(share)

    def _log_advantages(self, batch: dict[str, Any]) -> None:
        """Put the mean advantage of each answer's tokens into TRL's table, which has GRPO's."""
        means = batch["advantages"].sum(1) / batch["completion_mask"].sum(1).clamp(min=1)
        everywhere, column = self.accelerator.gather(means).tolist(), self._logs["advantages"]
        for _ in range(min(len(everywhere), len(column))):
            column.pop()
        column.extend(everywhere)

    # ---- checkpoints ----

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.prm is not None and self.args.should_save:
            save_model(self.prm, str(Path(output_dir) / WEIGHTS))
            torch.save(self.prm_optimizer.state_dict(), Path(output_dir) / OPTIMIZER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.prm is None or checkpoint is None:
            return
        weights, state = Path(checkpoint) / WEIGHTS, Path(checkpoint) / OPTIMIZER
        for path in (weights, state):
            if not path.is_file():
                raise DataError(f"{path} is missing: this checkpoint is not of PRIME, or was saved by save_only_model.")
        load_model(self.prm, str(weights))
        self.prm_optimizer.load_state_dict(torch.load(state, map_location=self.args.device, weights_only=True))
