"""Settings of DF-GRPO on top of TRL's, and the combinations that are rejected because they would be wrong."""
# ruff: noqa: RUF009 - `option` returns a dataclass field

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from accelerate.utils import DistributedType
from torch import nn
from trl import GRPOConfig

from difference_feedback.errors import ConfigError
from difference_feedback.method.objectives import LengthNorm
from difference_feedback.method.settings import PairSettings, option, refuse
from difference_feedback.models.ranks import is_sharded
from difference_feedback.trl.lean_update import check_lean
from difference_feedback.trl.objective import BATCH_MEAN_LOSSES, TRL_OBJECTIVES, trl_settings, with_objective


@dataclass
class LeanGRPOConfig(GRPOConfig):
    """TRL's `GRPOConfig`, and whether rows without a gradient are left out. See `lean_update.py`."""

    leave_out_rows: bool | None = option(
        None,
        "Leave rows without a gradient out of the update, and spread the others evenly over micro-batches and ranks. "
        "None: where the weights stay the same but for rounding. False: TRL's own update, bit for bit.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lean(self)


@dataclass
class DFGRPOConfig(PairSettings, LeanGRPOConfig):
    """TRL's `GRPOConfig` with the settings of Difference Feedback. [DF, Sec. 3]

    `objective` sets TRL's loss, ratio, clipping range or temperatures, and scaling of advantages; a field of these that
    is not None overrides it. `use_bias_correction_kl` is off: the paper's KL has no such correction, which changes the
    gradient even on-policy. `beta` is 0 as in TRL: a reference model doubles the memory.

    Raises `ConfigError` for combinations that are wrong or untested, each with its remedy.
    """

    objective: str = option("grpo", f"One of {', '.join(TRL_OBJECTIVES)}.")
    loss_type: str | None = option(None, "TRL's loss. It follows from `objective`.")  # type: ignore[assignment]
    importance_sampling_level: str | None = option(None, "It follows from `objective`.")  # type: ignore[assignment]
    scale_rewards: str | None = option(None, "`group` or `none`: advantages divided by the group's deviation, or not.")  # type: ignore[assignment]
    epsilon: float | None = option(None, "Clipping range below 1. None: the objective's.")  # type: ignore[assignment]
    epsilon_high: float | None = option(
        None, "Clipping range above 1; for cispo the largest weight. None: `epsilon` if set, else the objective's."
    )
    beta: float = option(0.0, "Coefficient of the KL to the reference model. No weights apply to the KL.")
    use_bias_correction_kl: bool = option(False, "TRL's importance-weighted KL. Token-level ratios only.")

    answer_column: str | None = option(None, "Data set column of the annotated answers. None: there are none.")
    length_norm: LengthNorm = option("tokens", "A sequence's divisor: its tokens, as in the paper, or its `weights`.")

    def __post_init__(self) -> None:
        changes = {name: getattr(self, name) for name in trl_settings(self.objective)}
        changes = {name: value for name, value in changes.items() if value is not None}
        for name, value in with_objective(self.objective, changes).items():
            setattr(self, name, value)
        super().__post_init__()
        self.check()
        refuse("DFGRPOConfig", self._problems())

    def _problems(self) -> Iterator[str]:
        """What would silently compute something else."""
        by_weights = self.length_norm == "weights"
        if self.reference == "answer" and self.answer_column is None:
            yield "reference='answer' needs answer_column, the data set's column of annotated answers"
        if self.use_bias_correction_kl and self.objective == "gspo":
            yield "use_bias_correction_kl would multiply the KL by the weighted sequence ratio; switch it off"
        if by_weights and self.loss_type == "dr_grpo":
            yield "length_norm='weights': Dr. GRPO divides by a constant; use length_norm='tokens'"
        if by_weights and self.loss_type in BATCH_MEAN_LOSSES and self.beta != 0.0:
            yield "length_norm='weights' would divide the KL as well; use beta=0 or length_norm='tokens'"
        if self.scale_rewards not in ("group", "none"):
            yield f"scale_rewards={self.scale_rewards!r}: advantages are taken within a prompt; use 'group' or 'none'"
        if self.multi_objective_aggregation != "sum_then_normalize":
            yield "multi_objective_aggregation: the summed reward says who is right; use 'sum_then_normalize'"
        if self.mask_truncated_completions:
            yield "mask_truncated_completions: truncated answers are repaired, too; penalise truncation in the reward"
        if self.entropy_coef != 0.0 or self.use_adaptive_entropy:
            yield "entropy_coef and use_adaptive_entropy average over micro-batches, which vary in size here; use beta"
        if self.top_entropy_quantile < 1.0:
            yield "top_entropy_quantile puts other weights on the same tokens; leave it at 1.0"
        if self.off_policy_mask_threshold is not None:
            yield "off_policy_mask_threshold needs sampling log-probabilities, and repairs have none; leave it None"
        if self.use_liger_kernel:
            yield "use_liger_kernel was not tested with weights; leave it off"
        if self.use_transformers_continuous_batching:
            yield "use_transformers_continuous_batching: TRL supports it for text models only; leave it off"


def refuse_shared_shards(repairer: Any, policy: nn.Module, distributed: DistributedType, zero_stage: int) -> None:
    """Raise `ConfigError` for a repair model whose weights are sharded over the ranks, or those of a sharded policy.

    Each rank needs as many repairs as it has wrong answers. Where every forward pass gathers shards from all ranks, the
    ranks with more would wait for the others.
    """
    sharded = distributed == DistributedType.FSDP or (distributed == DistributedType.DEEPSPEED and zero_stage == 3)
    model = getattr(repairer, "model", None)
    if not sharded or not isinstance(model, nn.Module):
        return
    shared = {id(parameter) for parameter in model.parameters()}
    if any(id(parameter) in shared for parameter in policy.parameters()):
        raise ConfigError(
            "The repair model shares the policy's weights, which are sharded over the ranks. Ranks that need unequal "
            "numbers of repairs would wait for each other. Give it weights of its own (repair_model: its folder; in "
            "Python LocalRepairer.from_pretrained: each rank holds a whole copy), or a server (repairs.via: vllm)."
        )
    if is_sharded(model):
        raise ConfigError(
            "The repair model was loaded in shards, which cannot answer outside a trainer: load it with "
            "LocalRepairer.from_pretrained, which gives each rank a whole copy."
        )
