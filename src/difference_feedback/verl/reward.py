"""The rewards of a recipe as a reward function of verl: `reward.custom_reward_function.path`."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from difference_feedback.judges.own_reward import load_reward
from difference_feedback.judges.questions import rule_named
from difference_feedback.judges.reward_sum import RewardFunction, weighted_sums
from difference_feedback.method.groups import least_right
from difference_feedback.models.outside_text import encode_text
from difference_feedback.models.processor import load_processor
from difference_feedback.runs.rewards import own_function


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Any = None,
    rewards: Sequence[str] = (),
    weights: Sequence[float] = (),
    threshold: float = 1.0,
    model: str = "nano",
    **_: Any,
) -> dict[str, Any]:
    """The reward of one answer: 1.0 for a right one, else 0.0, by the rule that the data names; or a weighted sum.

    verl's `reward.custom_reward_function.reward_kwargs` name `rewards` and their `weights`, where there are several or
    functions of one's own. Those get the row's columns, the prompt's text with its marks `<image>`, and the answer in
    the tokens of `model`; images are not passed.

    verl reads `score`, and writes the rest beside each validated answer: `acc` says whether the score reaches
    `threshold`, and `question` is the row of the data file. An answer that a function has not judged has `unjudged` 1.0
    and a `score` of 0.0, since verl has no other. It does not count where pairs are made, nor in this package's
    evaluations, but it does in verl's own validation metrics.
    """
    details = dict(extra_info or {})
    details |= json.loads(details.pop("others", None) or "{}")
    columns = {name: [_listed(value)] for name, value in details.items()}
    columns |= {"answer": [ground_truth], "options": [_listed(details.get("options")) or None]}
    prompts = columns.pop("prompt", [None])
    functions = [_function(name) for name in rewards or [data_source]]
    [total] = weighted_sums(
        functions,
        list(weights) or [1.0],
        prompts=prompts,
        completions=[[{"role": "assistant", "content": solution_str}]],
        completion_ids=[_encode(model, solution_str)] if rewards else [None],
        **columns,
    )
    score = float(total or 0.0)
    acc = float(total is not None and score >= least_right(threshold))
    return {"score": score, "acc": acc, "unjudged": float(total is None), "question": str(details.get("index", ""))}


@lru_cache
def _function(name: str) -> RewardFunction:
    function = own_function(name) if name.endswith(".py") or ":" in name else None
    return rule_named(name).reward if function is None else load_reward(function)


def _encode(model: str, text: str) -> list[int]:
    return encode_text(load_processor(model).tokenizer, text)


def _listed(value: Any) -> Any:
    """verl may read lists of a parquet file as arrays."""
    return value.tolist() if hasattr(value, "tolist") else value
