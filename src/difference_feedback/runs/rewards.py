"""What grades answers, as a recipe names it: a rule, a judge, a function in a file of one's own, or a weighted sum.

Nothing is imported or run here: a file is parsed, so that a mistake in its name or in the function's is found at once.
"""

import ast
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from difference_feedback.errors import ConfigError
from difference_feedback.runs.model_folder import local_path
from difference_feedback.runs.recipes import QuestionRecipe
from difference_feedback.runs.text_file import read_text
from difference_feedback.runs.validation import nearest

EMBEDDED, FINAL_ANSWER, JUDGE = "embedded", "final-answer", "llm-judge"
BENCHMARKS = ("mathvista", "mmmu", "mmstar", "mathverse", "mathvision", "ai2d")
"""Rewards by a benchmark's own answer rule, which reads the benchmark's own columns."""
BUILT_IN = (EMBEDDED, FINAL_ANSWER, JUDGE, *BENCHMARKS)
"""The rewards of this package. Each is 1 for a right answer, else 0."""
JUDGED = (JUDGE, "mathverse")
"""Rewards that a recipe's `judge` decides; of a benchmark it does so in place of the rule."""


class OwnFunction(NamedTuple):
    """A reward function in a file: `path/to/file.py:function`."""

    path: Path
    function: str

    def __str__(self) -> str:
        return f"{self.path}:{self.function}"


def own_function(name: str, key: str = "reward") -> OwnFunction | None:
    """The file and the function that a reward's name stands for; None for a reward of this package.

    Raises `ConfigError` for a name that is neither. A relative path is one below the current folder.
    """
    if name in BUILT_IN:
        return None
    path, separator, function = name.rpartition(":")
    if not separator or not path.endswith(".py") or not function.isidentifier():
        raise ConfigError(
            f"{key}: {name!r} is no reward.{nearest(name, BUILT_IN)} Your own function is path/to/file.py:function."
        )
    return OwnFunction(local_path(path), function)


def rewards_of(recipe: QuestionRecipe) -> dict[str, float]:
    """Name -> weight of the rewards that grade a recipe's answers, in the recipe's order."""
    reward = recipe.reward
    if isinstance(reward, dict):
        return {name: float(weight) for name, weight in reward.items()}
    weights = getattr(recipe, "trl", {}).get("reward_weights") or [1.0]
    return {reward or (EMBEDDED if recipe.data is None else FINAL_ANSWER): float(weights[0])}


def is_summed(recipe: QuestionRecipe) -> bool:
    """Whether it is more than the verdict of one rule or one judge: several, weighted, or one's own function."""
    rewards = rewards_of(recipe)
    return len(rewards) > 1 or any(name not in BUILT_IN or weight != 1.0 for name, weight in rewards.items())


def threshold_of(recipe: QuestionRecipe) -> float:
    """From which (summed) reward on an answer is right: `reward_threshold`, of the recipe or of its `trl:`, else 1."""
    threshold = recipe.reward_threshold
    if threshold is None:
        threshold = getattr(recipe, "trl", {}).get("reward_threshold")
    return 1.0 if threshold is None else float(threshold)


def check_rewards(recipe: QuestionRecipe) -> None:
    """Raise `ConfigError` for rewards that cannot grade: no such file or function, weights, or threshold."""
    trl = getattr(recipe, "trl", {})
    weights = trl.get("reward_weights")
    if isinstance(recipe.reward, dict) and weights is not None:
        raise ConfigError("trl.reward_weights: the weights stand in reward already: leave one of the two out.")
    if weights is not None:
        if not isinstance(weights, list) or not all(map(_is_number, weights)):
            raise ConfigError(f"trl.reward_weights: {weights!r} is no list of numbers: give a weight for each reward.")
        if len(weights) != 1:
            raise ConfigError(
                f"trl.reward_weights has {len(weights)} weights for 1 reward: give one, or write several rewards as "
                "reward: {name: weight, ...}."
            )
    keys = {"reward_threshold": recipe.reward_threshold, "trl.reward_threshold": trl.get("reward_threshold")}
    thresholds = {key: value for key, value in keys.items() if value is not None}
    if len(thresholds) > 1:
        raise ConfigError("reward_threshold and trl.reward_threshold are the same: leave one of the two out.")
    for key, value in thresholds.items():
        if not _is_number(value):
            raise ConfigError(f"{key}: {value!r} is no number that a reward can reach: give one, for example 1.0.")
    rewards = rewards_of(recipe)
    for name in rewards:
        function = own_function(name)
        if function is not None:
            _check_file(function)
    most = sum(max(weight, 0.0) for weight in rewards.values())
    least = sum(min(weight, 0.0) for weight in rewards.values())
    threshold = threshold_of(recipe)
    built_in = all(name in BUILT_IN for name in rewards)
    key = next(iter(thresholds), "reward_threshold")
    if built_in and threshold <= least:
        raise ConfigError(
            f"{key}: no answer can be wrong: the rewards are {least:g} at least, and the threshold is {threshold:g}. "
            f"Raise {key}."
        )
    if built_in and most < threshold and not math.isclose(most, threshold):  # 0.7 + 0.2 + 0.1 is less than 1
        raise ConfigError(
            f"{key}: no answer can be right: the rewards reach {most:g} at most, and the threshold is {threshold:g}. "
            f"Raise the weights, or lower {key}."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_file(name: OwnFunction) -> None:
    try:
        tree = ast.parse(read_text(name.path, f"reward: {name}: {name.path.absolute()} must be a Python file"))
    except ConfigError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        raise ConfigError(f"reward: {name}: line {line} is no Python ({getattr(error, 'msg', error)}).") from None
    defined: dict[str, ast.AST] = {}
    for node in _statements(tree.body):
        defined |= dict.fromkeys(_names(node), node)
    node_of_name = defined.get(name.function)
    if node_of_name is None and "*" not in defined:
        functions = [key for key, node in defined.items() if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        has = f" Its functions: {', '.join(functions)}." if functions else " It has no function at all."
        raise ConfigError(f"reward: {name}: the file has no function {name.function!r}.{has}")
    constant = isinstance(node_of_name, ast.Assign | ast.AnnAssign) and isinstance(node_of_name.value, ast.Constant)
    if isinstance(node_of_name, ast.ClassDef) or constant:
        raise ConfigError(f"reward: {name}: {name.function} is no function: name one that takes completions.")


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, those inside `if`, `try` and `with` included."""
    for node in body:
        yield node
        for field in ("body", "orelse", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.With):
                yield from _statements(getattr(node, field, []))
        if isinstance(node, ast.Try):
            for handler in node.handlers:
                yield from _statements(handler.body)


def _names(node: ast.stmt) -> Iterator[str]:
    """The names that a statement defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in node.names)
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name))
