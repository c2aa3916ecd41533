"""The package's rules as verl calls a reward: `reward.custom_reward_function.path`."""

from typing import Any

from difference_feedback.judges.rules import matches
from difference_feedback.world import correctness_reward


def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_: Any) -> float:
    """1.0 for a right answer, else 0.0: by the embedded tasks' rule, or by the final-answer rule for other data."""
    if data_source == "embedded":
        return correctness_reward([None], [solution_str], answer=[ground_truth])[0]
    options = (extra_info or {}).get("options")
    return float(matches(solution_str, ground_truth, list(options) if options is not None and len(options) else None))
