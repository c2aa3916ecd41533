"""The embedded world: six visual-reasoning tasks whose truth, and whose errors, are known."""

from difference_feedback.world.forms import ErrorSpan
from difference_feedback.world.mixture import (
    TASKS,
    caption,
    correct_answers,
    correctness_reward,
    error_spans,
    final_answer,
    from_row,
    is_correct,
    sample_problems,
    to_dataset,
    unseen_forms,
)
from difference_feedback.world.problem import Problem, Split

__all__ = [
    "TASKS",
    "ErrorSpan",
    "Problem",
    "Split",
    "caption",
    "correct_answers",
    "correctness_reward",
    "error_spans",
    "final_answer",
    "from_row",
    "is_correct",
    "sample_problems",
    "to_dataset",
    "unseen_forms",
]
