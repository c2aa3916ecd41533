"""Host: DF-GRPO on TRL's `GRPOTrainer`."""

from difference_feedback.trl.budget import StopAtBudget
from difference_feedback.trl.config import DFGRPOConfig
from difference_feedback.trl.metrics_file import MetricsToJsonl
from difference_feedback.trl.resume import ExactResume
from difference_feedback.trl.trainer import DFGRPOTrainer

__all__ = ["DFGRPOConfig", "DFGRPOTrainer", "ExactResume", "MetricsToJsonl", "StopAtBudget"]
