"""Other ways to weigh tokens, to compare with. Each is a thin subclass of TRL's GRPO."""

from difference_feedback.trl.config import LeanGRPOConfig
from difference_feedback.trl.peers.advantage_reweighting import ARGRPOConfig, ARGRPOTrainer
from difference_feedback.trl.peers.prime import PRIMETrainer
from difference_feedback.trl.peers.prime_config import PRIMEConfig
from difference_feedback.trl.resume import ExactResume

GRPO_TRAINERS: dict[str, tuple[type[LeanGRPOConfig], type[ExactResume]]] = {
    "grpo": (LeanGRPOConfig, ExactResume),
    "ar-grpo": (ARGRPOConfig, ARGRPOTrainer),
    "prime": (PRIMEConfig, PRIMETrainer),
}
"""Method of a `train` recipe without Difference Feedback -> its settings and its trainer."""

__all__ = ["GRPO_TRAINERS", "ARGRPOConfig", "ARGRPOTrainer", "PRIMEConfig", "PRIMETrainer"]
