"""Settings of PRIME."""

from collections.abc import Iterator
from dataclasses import dataclass

from difference_feedback.method.settings import option, refuse
from difference_feedback.trl.config import LeanGRPOConfig
from difference_feedback.trl.peers.token_ratios import refuse_sequence_ratios


@dataclass
class PRIMEConfig(LeanGRPOConfig):
    """TRL's `GRPOConfig` with the settings of PRIME. The defaults are the paper's, Sec. 4.1. See `prime.py`.

    `scale_rewards` has no effect: advantages are differences from a leave-one-out baseline and are not divided.
    """

    prm_beta: float = option(0.05, "beta of the implicit reward. 0: no process reward model, which leaves RLOO.")
    prm_learning_rate: float = option(1e-6, "Learning rate of the process reward model, constant.")
    prm_gamma: float = option(1.0, "Discount of the process rewards, per token.")
    prompt_accuracy_low: float = option(0.2, "Prompts whose share of right answers is below this are left out.")
    prompt_accuracy_high: float = option(0.8, "Prompts whose share of right answers is above this are left out.")
    reward_threshold: float = option(1.0, "An answer is right if its reward is at least this.")

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_sequence_ratios(self)
        refuse("PRIMEConfig", self._problems())

    def _problems(self) -> Iterator[str]:
        low, high = self.prompt_accuracy_low, self.prompt_accuracy_high
        if not 0.0 <= self.prm_beta <= 100.0:
            yield f"prm_beta={self.prm_beta}: give a number from 0 to 100; the paper has 0.05"
        if not 0.0 < self.prm_learning_rate < 10.0:
            yield f"prm_learning_rate={self.prm_learning_rate}: give a rate above 0"
        if not 0.0 <= self.prm_gamma <= 1.0:
            yield f"prm_gamma={self.prm_gamma}: give a discount from 0 to 1"
        if not 0.0 <= low <= high <= 1.0:
            yield f"prompt_accuracy_low={low} and prompt_accuracy_high={high}: give shares, the low one first"
        if self.multi_objective_aggregation != "sum_then_normalize":
            yield "multi_objective_aggregation: the summed reward says who is right; use 'sum_then_normalize'"
        if self.fp16:
            yield "fp16: the process reward model's gradients are not scaled; use bf16 or float32"
