"""The policy's log-probabilities of the rows of an update, and of answers that may enter it, under its own prompts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import nn
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from difference_feedback.method.masks import FloatArray
from difference_feedback.method.pairs import Member
from difference_feedback.trl.image_rows import FORWARD_FIELDS
from difference_feedback.trl.lean_update import rows_at_once
from difference_feedback.trl.pair_batch import build_batch, rows_per_rank
from difference_feedback.trl.resume import ExactResume
from difference_feedback.trl.rollouts import Rollouts


class PolicyLogps(ExactResume):
    """`ExactResume` that scores rows which TRL did not sample, as many at once as an update has."""

    model: Any
    processing_class: Any
    pad_to_multiple_of: Any

    def _score_policy(self, batch: dict[str, Any]) -> None:
        """Old and reference log-probabilities of the members, under the policy's own prompt, where TRL needs them."""
        with self._without_gradients():
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

    def _policy_scores(self, batch: dict[str, Any], rollouts: Rollouts, rows: list[int]) -> dict[int, FloatArray]:
        """The policy's log-probabilities `(T,)` of these answers under its own prompt, as TRL has or computes them."""
        answers = [(row, rollouts.completion_ids[row]) for row in rows]
        if (old := batch.get("old_per_token_logps")) is not None:
            return {row: old[row, : len(ids)].float().cpu().numpy() for row, ids in answers}
        logps = self._logps_of(batch, answers) or []
        return {row: of_row.cpu().numpy() for row, of_row in zip(rows, logps, strict=True)}

    def _logps_of(
        self, batch: dict[str, Any], answers: Sequence[tuple[int, Sequence[int]]]
    ) -> list[torch.Tensor] | None:
        """The policy's log-probabilities `(T,)` of answers to rows of `batch`; None where no rank has any.

        All ranks make this call, with any number of answers.
        """
        sizes = gather_object([len(answers)])
        if not max(sizes):
            return None
        no_weights = np.zeros(0, np.float32)
        members = [Member(row, ids, no_weights, 0.0, True) for row, ids in answers]
        scored = self._rows(batch, members, rows_per_rank(sizes, self._steps_per_generation))
        with self._without_gradients():
            logps = self._logps(self.model, scored).float()
        return [of_row[: len(ids)] for of_row, (_, ids) in zip(logps, answers, strict=False)]  # filler rows follow

    def _logps(self, model: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
        """Log-probabilities `(B, T)` of the completions of a batch, as many rows at once as in the update."""
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        fields = {name: batch[name] for name in FORWARD_FIELDS if name in batch}
        rows, width = rows_at_once(batch, self._steps_per_generation), batch["completion_ids"].size(1)
        return self._get_per_token_logps_and_entropies(model, ids, mask, width, batch_size=rows, **fields)[0]

    def _rows(self, batch: dict[str, Any], members: list[Member], num_rows: int) -> dict[str, Any]:
        return build_batch(batch, members, num_rows, self._tokenizer.pad_token_id, self.pad_to_multiple_of)

    @contextmanager
    def _without_gradients(self) -> Iterator[None]:
        checkpointing: Any = self.args.gradient_checkpointing_kwargs
        with torch.no_grad(), disable_gradient_checkpointing(self.model, checkpointing):
            yield

    @property
    def _corrects_sampler(self) -> bool:
        return self.use_vllm and self.vllm_importance_sampling_correction
