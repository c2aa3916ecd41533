"""Real runs of every kind log what the registry describes, and it describes what they log."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import trl_world
from datasets import Dataset
from test_draft_scores_in_trl import Known
from trl_world import ScriptedTrainer

from difference_feedback import world
from difference_feedback.bench.watch import CountWork, MeasureMasks
from difference_feedback.data.repair_set import RepairExample
from difference_feedback.judges.answers import Rollout
from difference_feedback.policy.evaluation import Evaluation, Prediction
from difference_feedback.repair.blank_image import BlankImageFactor
from difference_feedback.repair.audit_factor import AuditFactor
from difference_feedback.judges.embedded_auditor import EmbeddedAuditor
from difference_feedback.repair.drafts import WrongDraft
from difference_feedback.repair.rl import fit_rl
from difference_feedback.repair.rl_data import rl_dataset
from difference_feedback.repair.sft import fit_sft, sft_dataset
from difference_feedback.report.metrics.metric import Kind
from difference_feedback.report.metrics.registry import metric_of, metrics_of
from difference_feedback.trl import DFDPOConfig, DFDPOTrainer, ExactResume, StopAtBudget
from difference_feedback.trl.config import LeanGRPOConfig
from trl import SFTConfig
