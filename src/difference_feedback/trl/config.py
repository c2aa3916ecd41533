"""Settings of DF-GRPO on top of TRL's, and the combinations that are refused because they cannot be right."""
# ruff: noqa: RUF009 - `option` returns a dataclass field

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accelerate.utils import DistributedType
from torch import nn
from trl import GRPOConfig

from difference_feedback.errors import ConfigError
from difference_feedback.method.objectives import LengthNorm
from difference_feedback.method.settings import PairSettings, option
from difference_feedback.trl.objective import BATCH_MEAN_LOSSES, TRL_OBJECTIVES, trl_settings, with_objective


@dataclass
class DFGRPOConfig(PairSettings, GRPOConfig):
    """TRL's `GRPOConfig` with the settings of Difference Feedback. [DF, Sec. 3]

    `objective` sets TRL's loss, ratio, clipping range or temperatures, and scaling of advantages; those fields are None
    here unless you give your own. `use_bias_correction_kl` is off, since it changes the KL gradient even on-policy and
    the paper's KL has none; `beta` is 0 as in TRL, and stated here because a reference model doubles the memory.

    Raises `ConfigError` for combinations that are wrong or untested, each with its remedy.
    """

    objective: str = option("grpo", f"One of {', '.join(TRL_OBJECTIVES)}.")
    loss_type: str | None = option(None, "TRL's loss. It follows from `objective`.")  # type: ignore[assignment]
    importance_sampling_level: str | None = option(None, "It follows from `objective`.")  # type: ignore[assignment]
    scale_rewards: str | None = option(None, "`group` or `none`: advantages divided by the group's deviation, or not.")  # type: ignore[assignment]
    epsilon: float | None = option(None, "Clipping range below 1. None: the objective's.")  # type: ignore[assignment]
    epsilon_high: float | None = option(
        None,
        "Clipping range above 1. None: that below, where one is given, else the objective's. For cispo the "
        "largest importance weight.",
    )
    beta: float = option(0.0, "Weight of the KL to the reference model. No weights apply to it.")
    use_bias_correction_kl: bool = option(False, "TRL's importance-weighted KL. Token-level ratios only.")

    answer_column: str | None = option(
        None, "Data set column of the annotated answer, a `reference`. None: there is none."
    )
    length_norm: LengthNorm = option(
        "tokens", "Per-sequence normaliser: all tokens, as in the paper, or the sum of the weights."
    )

    def __post_init__(self) -> None:
        self._follow_objective()
        super().__post_init__()
        self.check()
        if self.reference == "answer" and self.answer_column is None:
            raise ConfigError("reference='answer' needs answer_column, the data set's column of annotated answers.")
        self._check_trl_fields()

    def _follow_objective(self) -> None:
        given = {name: getattr(self, name) for name in trl_settings(self.objective)}
        given = {name: value for name, value in given.items() if value is not None}
        for name, value in with_objective(self.objective, given).items():
            setattr(self, name, value)

    def _check_trl_fields(self) -> None:
        """Refuse what would silently compute something else."""
        refused = {
            "use_bias_correction_kl=True": (
                self.use_bias_correction_kl and self.objective == "gspo",
                "it multiplies the KL by the weighted sequence ratio, and the KL must stay unweighted; switch it off",
            ),
            "length_norm='weights'": (
                self.length_norm == "weights" and self.loss_type == "dr_grpo",
                "Dr. GRPO's normaliser is a constant; use length_norm='tokens'",
            ),
            f"length_norm='weights' with objective={self.objective!r} and a KL": (
                self.length_norm == "weights" and self.loss_type in BATCH_MEAN_LOSSES and self.beta != 0.0,
                "it divides policy term and KL by the same number; use beta=0 or length_norm='tokens'",
            ),
            f"scale_rewards={self.scale_rewards!r}": (
                self.scale_rewards not in ("group", "none"),
                "advantages are taken within each prompt's pairs; use 'group' or 'none'",
            ),
            "multi_objective_aggregation='normalize_then_sum'": (
                self.multi_objective_aggregation != "sum_then_normalize",
                "the summed reward says who is right; use 'sum_then_normalize'",
            ),
            "mask_truncated_completions=True": (
                self.mask_truncated_completions,
                "a truncated wrong answer is repaired like any other; penalise truncation in the reward instead",
            ),
            "entropy_coef or use_adaptive_entropy": (
                self.entropy_coef != 0.0 or self.use_adaptive_entropy,
                "the bonus is a mean over micro-batches of varying size here; use beta to keep the policy close",
            ),
            "top_entropy_quantile < 1": (
                self.top_entropy_quantile < 1.0,
                "it would put weights of its own on the same tokens; leave it at 1.0",
            ),
            "off_policy_mask_threshold": (
                self.off_policy_mask_threshold is not None,
                "repairs were never sampled by the policy, so they have no sampling log-probs; leave it None",
            ),
            "use_liger_kernel=True": (self.use_liger_kernel, "not verified with weights; leave it off"),
            "use_transformers_continuous_batching=True": (
                self.use_transformers_continuous_batching,
                "TRL supports it for text models only, and it was not verified; leave it off",
            ),
        }
        problems = [f"{what}: {why}." for what, (wrong, why) in refused.items() if wrong]
        if problems:
            raise ConfigError("DFGRPOConfig: " + " ".join(problems))


def refuse_foreign_rollouts(trl_arguments: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for rollouts that the trainer does not sample itself."""
    for name in ("tools", "environment_factory", "rollout_func"):
        if trl_arguments.get(name):
            raise ConfigError(f"{name}: answers with tool calls or from elsewhere cannot be repaired; leave it out.")


def refuse_shared_shards(repairer: Any, policy: nn.Module, distributed: DistributedType, zero_stage: int) -> None:
    """Raise `ConfigError` for a repair model on weights that are sharded over the ranks.

    Each rank asks for as many repairs as it has wrong answers. Where every forward pass gathers shards from all ranks,
    the ranks with fewer would leave the others waiting.
    """
    sharded = distributed == DistributedType.FSDP or (distributed == DistributedType.DEEPSPEED and zero_stage == 3)
    model = getattr(repairer, "model", None)
    if not sharded or not isinstance(model, nn.Module):
        return
    shared = {id(parameter) for parameter in model.parameters()}
    if any(id(parameter) in shared for parameter in policy.parameters()):
        raise ConfigError(
            "The repair model shares the policy's weights, which are sharded over the ranks: ranks that ask for "
            "unequal numbers of repairs would wait for each other. Give it weights of its own "
            "(LocalRepairer.from_pretrained holds a whole copy on each rank), or a server (repairs.via: vllm)."
        )
