"""The embedded tasks' reward as verl calls it."""

from typing import Any

from difference_feedback.tasks import correctness_reward


def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_: Any) -> float:
    return correctness_reward([None], [solution_str], answer=[ground_truth])[0]
