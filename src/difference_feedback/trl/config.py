"""Settings of DF-GRPO on top of TRL's, and the combinations that are refused because they cannot be right."""

from dataclasses import dataclass, field
from typing import Literal

from trl import GRPOConfig

from difference_feedback.controls import CONTROLS
from difference_feedback.errors import ConfigError

LOSS_TYPES = ("grpo", "dapo", "dr_grpo")
"""TRL losses whose gate is tested, token by token. GSPO is `grpo` with `importance_sampling_level="sequence"`."""


@dataclass
class DFGRPOConfig(GRPOConfig):
    """TRL's `GRPOConfig` with the settings of Difference Feedback. [DF, Sec. 3]

    Three of TRL's defaults differ: `loss_type` is `grpo`, the objective of [DF, Eq. 17] (TRL: `dapo`);
    `use_bias_correction_kl` is off, since it changes the KL gradient even on-policy and the paper's KL has none;
    `beta` is 0 as in TRL, and stated here because a reference model doubles the memory.

    Raises `ConfigError` for combinations that are wrong or untested, each with its remedy.
    """

    loss_type: str = field(default="grpo", metadata={"help": f"TRL loss, one of {', '.join(LOSS_TYPES)}."})
    beta: float = field(default=0.0, metadata={"help": "Weight of the KL to the reference model. It is never gated."})
    use_bias_correction_kl: bool = field(
        default=False, metadata={"help": "TRL's importance-weighted KL. Token-level ratios only."}
    )

    reward_threshold: float = field(
        default=1.0, metadata={"help": "tau: an answer, or a repair, is correct from this reward on."}
    )
    num_repairs: int = field(default=1, metadata={"help": "K: repairs sampled per wrong answer (the paper uses 2)."})
    reference: Literal["sibling_then_answer", "sibling", "answer"] = field(
        default="sibling_then_answer",
        metadata={
            "help": "Where a repair's reference comes from: a correct answer drawn uniformly from the group, the "
            "annotated answer of `answer_column`, or the first with the second as a fallback."
        },
    )
    answer_column: str | None = field(
        default=None, metadata={"help": "Data set column of the annotated answer. None: there is none."}
    )
    empty_feasible: Literal["drop", "broadcast"] = field(
        default="drop",
        metadata={"help": "A wrong answer without a feasible repair is dropped, or kept with a mask of ones."},
    )
    alignment_method: Literal["levenshtein", "lcs"] = field(
        default="levenshtein", metadata={"help": "Edit path between wrong answer and repair."}
    )
    anchor_gaps: bool = field(default=True, metadata={"help": "A gap marks its place on the other side as well."})
    granularity: Literal["token", "step"] = field(
        default="token", metadata={"help": "`step` marks the whole sentence or line around a marked token."}
    )
    sigma: float | None = field(
        default=None, metadata={"help": "Soft weights exp(-d / sigma), d in tokens. None: the hard mask."}
    )
    gate: Literal["mask", "ones", "random", "inverted", "wrong_only", "repaired_only"] = field(
        default="mask",
        metadata={
            "help": "`ones` switches the gate off: the control with the same repaired answers. The others are controls "
            "that change which tokens the mask marks; see `difference_feedback.controls`."
        },
    )
    regroup: bool = field(
        default=True,
        metadata={
            "help": "Optimise over wrong answers and their repairs. False keeps the original group, no repairs added; "
            "with gate='ones' that is TRL's GRPO, and no repairer is needed."
        },
    )
    length_norm: Literal["tokens", "gated"] = field(
        default="tokens",
        metadata={"help": "Per-sequence normaliser: all tokens, as in the paper, or the sum of the weights."},
    )
    reference_seed: int = field(default=0, metadata={"help": "Seed of the draws of references."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_own_fields()
        self._check_trl_fields()

    @property
    def needs_repairer(self) -> bool:
        return self.regroup or self.gate != "ones"

    def _check_own_fields(self) -> None:
        for name, choices in {
            "reference": ("sibling_then_answer", "sibling", "answer"),
            "empty_feasible": ("drop", "broadcast"),
            "alignment_method": ("levenshtein", "lcs"),
            "granularity": ("token", "step"),
            "gate": ("mask", "ones", *CONTROLS),
            "length_norm": ("tokens", "gated"),
        }.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(choices)}.")
        if self.num_repairs < 1:
            raise ConfigError(f"num_repairs={self.num_repairs}: at least one repair is needed per wrong answer.")
        if self.sigma is not None and not self.sigma > 0:
            raise ConfigError(f"sigma={self.sigma}: give a positive number of tokens, or None for the hard mask.")
        if self.reference == "answer" and self.answer_column is None:
            raise ConfigError("reference='answer' needs answer_column, the data set's column of annotated answers.")

    def _check_trl_fields(self) -> None:
        """Refuse what would silently compute something else."""
        sequence = self.importance_sampling_level == "sequence"
        refused = {
            f"loss_type={self.loss_type!r}": (
                self.loss_type not in LOSS_TYPES,
                f"its gate is not verified; use one of {', '.join(LOSS_TYPES)} (GSPO: loss_type='grpo' with "
                "importance_sampling_level='sequence'; bnpo cannot work, its denominator is one micro-batch's)",
            ),
            "importance_sampling_level='sequence'": (
                sequence and self.loss_type != "grpo",
                "sequence ratios are verified with loss_type='grpo' alone (GSPO)",
            ),
            "use_bias_correction_kl=True": (
                self.use_bias_correction_kl and sequence,
                "it multiplies the KL by the gated sequence ratio, and the KL must stay ungated; switch it off",
            ),
            "length_norm='gated'": (
                self.length_norm == "gated" and self.loss_type == "dr_grpo",
                "Dr. GRPO's normaliser is a constant; use length_norm='tokens'",
            ),
            "length_norm='gated' with loss_type='dapo' and a KL": (
                self.length_norm == "gated" and self.loss_type == "dapo" and self.beta != 0.0,
                "DAPO divides policy term and KL by the same number; use beta=0 or length_norm='tokens'",
            ),
            f"scale_rewards={self.scale_rewards!r}": (
                self.scale_rewards not in ("group", "none"),
                "advantages are taken within each prompt's pairs; use 'group' or 'none'",
            ),
            "multi_objective_aggregation='normalize_then_sum'": (
                self.multi_objective_aggregation != "sum_then_normalize",
                "right and wrong are told by the summed reward; use 'sum_then_normalize'",
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
                "it would be a second gate on the same tokens; leave it at 1.0",
            ),
            "off_policy_mask_threshold": (
                self.off_policy_mask_threshold is not None,
                "repairs were never sampled by the policy, so they have no sampling log-probs; leave it None",
            ),
            "use_liger_kernel=True": (
                self.use_liger_kernel,
                "not verified with the gate; leave it off",
            ),
            "use_transformers_continuous_batching=True": (
                self.use_transformers_continuous_batching,
                "TRL supports it for text models alone and it was not verified; leave it off",
            ),
        }
        problems = [f"{what}: {why}." for what, (wrong, why) in refused.items() if wrong]
        if problems:
            raise ConfigError("DFGRPOConfig: " + " ".join(problems))
