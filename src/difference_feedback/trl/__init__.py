"""Host: Difference Feedback on TRL's trainers."""

from difference_feedback.trl.callbacks import MetricsToJsonl, StopAtBudget
from difference_feedback.trl.config import DFGRPOConfig
from difference_feedback.trl.dpo import DFDPOConfig, DFDPOTrainer
from difference_feedback.trl.resume import ExactResume
from difference_feedback.trl.trainer import DFGRPOTrainer

__all__ = [
    "DFDPOConfig",
    "DFDPOTrainer",
    "DFGRPOConfig",
    "DFGRPOTrainer",
    "ExactResume",
    "MetricsToJsonl",
    "StopAtBudget",
]
