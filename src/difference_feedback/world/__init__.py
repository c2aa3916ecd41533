"""The embedded world: six visual-reasoning tasks with known truth and known errors."""

from difference_feedback.world.forms import ErrorSpan
from difference_feedback.world.mixture import (
    TASKS,
    caption,
    correct_answers,
    correctness_reward,
    error_spans,
    final_answer,
    forms_of,
    from_row,
    is_correct,
    sample_problems,
    to_dataset,
    unseen_forms,
)
from difference_feedback.world.problem import ImageSplit, Problem

__all__ = [
    "TASKS",
    "ErrorSpan",
    "ImageSplit",
    "Problem",
    "caption",
    "correct_answers",
    "correctness_reward",
    "error_spans",
    "final_answer",
    "forms_of",
    "from_row",
    "is_correct",
    "sample_problems",
    "to_dataset",
    "unseen_forms",
]
