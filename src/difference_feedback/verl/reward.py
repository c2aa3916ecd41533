"""The package's rules as verl calls a reward: `reward.custom_reward_function.path`."""

from typing import Any

from difference_feedback.judges.rules import matches
from difference_feedback.world import correctness_reward


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_: Any
) -> dict[str, Any]:
    """1.0 for a right answer, else 0.0: by the embedded tasks' rule, or by the final-answer rule for other data.

    verl reads `score`, and writes the rest beside an answer of its validation; `question` is the row of the data file.
    """
    about = extra_info or {}
    if data_source == "embedded":
        score = correctness_reward([None], [solution_str], answer=[ground_truth])[0]
    else:
        options = about.get("options")
        given = list(options) if options is not None and len(options) else None
        score = float(matches(solution_str, ground_truth, given))
    return {"score": score, "acc": score, "question": str(about.get("index", ""))}
