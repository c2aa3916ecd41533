"""Settings of DF-GRPO on top of TRL's, and the combinations that are refused because they cannot be right."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from trl import GRPOConfig

from difference_feedback.errors import ConfigError
from difference_feedback.method.ablations import ABLATIONS
from difference_feedback.method.groups import CorrectRollouts, EmptyFeasible
from difference_feedback.method.settings import MaskSettings
from difference_feedback.trl.objective import BATCH_MEAN_LOSSES, TRL_OBJECTIVES, trl_settings, with_objective


@dataclass
class DFGRPOConfig(MaskSettings, GRPOConfig):
    """TRL's `GRPOConfig` with the settings of Difference Feedback. [DF, Sec. 3]

    `objective` sets TRL's loss, ratio, clipping range or temperatures, and scaling of advantages; those fields are None
    here unless you give your own. `use_bias_correction_kl` is off, since it changes the KL gradient even on-policy and
    the paper's KL has none; `beta` is 0 as in TRL, and stated here because a reference model doubles the memory.

    Raises `ConfigError` for combinations that are wrong or untested, each with its remedy.
    """

    objective: str = field(default="grpo", metadata={"help": f"One of {', '.join(TRL_OBJECTIVES)}."})
    loss_type: str | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "TRL's loss. It follows from `objective`."}
    )
    importance_sampling_level: str | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "It follows from `objective`."}
    )
    scale_rewards: str | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "`group` or `none`: advantages divided by the group's deviation, or not."}
    )
    epsilon: float | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Clipping range below 1. None: the objective's."}
    )
    epsilon_high: float | None = field(
        default=None,
        metadata={
            "help": "Clipping range above 1. None: that below, where one is given, else the objective's. For cispo the "
            "largest importance weight."
        },
    )
    beta: float = field(
        default=0.0, metadata={"help": "Weight of the KL to the reference model. No weights apply to it."}
    )
    use_bias_correction_kl: bool = field(
        default=False, metadata={"help": "TRL's importance-weighted KL. Token-level ratios only."}
    )

    reward_threshold: float = field(
        default=1.0, metadata={"help": "tau: an answer, or a repair, is correct from this reward on."}
    )
    num_repairs: int = field(
        default=1,
        metadata={
            "help": "K: repairs sampled per wrong answer (the paper uses 2). 0: none, with sibling_repairs alone."
        },
    )
    sibling_repairs: bool = field(
        default=False,
        metadata={
            "help": "The group's right answers are candidates for a wrong answer's repair as well, at no cost; beyond "
            "the paper."
        },
    )
    max_edit_cost: float = field(
        default=1.0,
        metadata={
            "help": "A repair that changes more than this share of the tokens is none; beyond the paper. 1: all are."
        },
    )
    min_probability: float = field(
        default=0.0,
        metadata={
            "help": "A repair is used only if the policy gives each of its tokens at least this probability. One that "
            "is right by its end alone has tokens that do not follow; beyond the paper. 0: all right repairs are used."
        },
    )
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
    empty_feasible: EmptyFeasible = field(
        default="drop",
        metadata={"help": "A wrong answer without a feasible repair is dropped, or kept with a mask of ones."},
    )
    correct_rollouts: CorrectRollouts = field(
        default="leave",
        metadata={"help": "Correct answers leave the group, as in the paper, or stay in it with weights of one."},
    )
    weights: Literal["mask", "ones", "random", "inverted", "wrong_only", "repair_only"] = field(
        default="mask",
        metadata={
            "help": "`ones` switches the gate off: the control with the same repaired answers. The others are controls "
            "that change which tokens the mask marks; see `difference_feedback.method.ablations`."
        },
    )
    regroup: bool = field(
        default=True,
        metadata={
            "help": "Optimise over wrong answers and their repairs. False keeps the original group, no repairs added; "
            "with weights='ones' that is TRL's GRPO, and no repairer is needed."
        },
    )
    length_norm: Literal["tokens", "weights"] = field(
        default="tokens",
        metadata={"help": "Per-sequence normaliser: all tokens, as in the paper, or the sum of the weights."},
    )
    repaired_ratio: Literal["old", "one"] = field(
        default="old",
        metadata={
            "help": "A repair's ratio is taken against the policy that sampled the rollouts, as in the paper, or `one` "
            "at its first update. They differ when a batch of rollouts serves several updates."
        },
    )
    reference_seed: int = field(default=0, metadata={"help": "Seed of the draws of references."})

    def __post_init__(self) -> None:
        self._follow_objective()
        super().__post_init__()
        self._check_own_fields()
        self._check_trl_fields()

    @property
    def makes_pairs(self) -> bool:
        """Whether wrong answers are repaired at all."""
        return self.regroup or self.weights != "ones"

    @property
    def needs_repairer(self) -> bool:
        return self.makes_pairs and self.num_repairs > 0

    def _follow_objective(self) -> None:
        given = {name: getattr(self, name) for name in trl_settings(self.objective)}
        given = {name: value for name, value in given.items() if value is not None}
        for name, value in with_objective(self.objective, given).items():
            setattr(self, name, value)

    def _check_own_fields(self) -> None:
        self.check_mask()
        for name, choices in {
            "reference": ("sibling_then_answer", "sibling", "answer"),
            "empty_feasible": get_args(EmptyFeasible),
            "correct_rollouts": get_args(CorrectRollouts),
            "weights": ("mask", "ones", *ABLATIONS),
            "length_norm": ("tokens", "weights"),
            "repaired_ratio": ("old", "one"),
        }.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(choices)}.")
        if self.num_repairs < (0 if self.sibling_repairs else 1):
            raise ConfigError(
                f"num_repairs={self.num_repairs}: at least one repair is needed per wrong answer, or sibling_repairs."
            )
        if not 0.0 < self.max_edit_cost <= 1.0:
            raise ConfigError(f"max_edit_cost={self.max_edit_cost}: give a share of the tokens, above 0 and at most 1.")
        if not 0.0 <= self.min_probability < 1.0:
            raise ConfigError(f"min_probability={self.min_probability}: give a probability below 1; 0.05 is a start.")
        if self.root_cause and self.weights != "mask":
            raise ConfigError("root_cause=True narrows the mask, and weights='ones' has none; use weights='mask'.")
        if self.reference == "answer" and self.answer_column is None:
            raise ConfigError("reference='answer' needs answer_column, the data set's column of annotated answers.")

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
