"""The package's rules as a reward function of verl: `reward.custom_reward_function.path`."""

from typing import Any

from difference_feedback.judges.questions import EMBEDDED, FINAL_ANSWER


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_: Any
) -> dict[str, Any]:
    """1.0 for a right answer, else 0.0: by the embedded tasks' rule, or by the final-answer rule for other data.

    verl reads `score`, and writes the rest beside each validated answer. `question` is the row of the data file.
    """
    details = extra_info or {}
    rule = EMBEDDED if data_source == EMBEDDED.name else FINAL_ANSWER
    options = details.get("options")
    choices = list(options) if options is not None and len(options) else None
    [reward] = rule.reward([None], [solution_str], answer=[ground_truth], options=[choices])
    score = float(reward or 0.0)
    return {"score": score, "acc": score, "question": str(details.get("index", ""))}
