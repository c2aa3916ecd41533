"""A reward function in a file of one's own, as a recipe names it: imported, called with what it takes, and checked."""

import asyncio
import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache, wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.runs.rewards import OwnFunction

_LARGEST = 1e9  # a group's squares must stay within float32


def load_reward(name: OwnFunction) -> Callable[..., list[float | None]]:
    """The function, to be called as TRL calls it. It gets the arguments that its signature names, or all.

    A mistake in it is a `DataError` that names it: an exception, another number of rewards than of answers, and a
    reward that is neither a finite number nor None (unjudged).

    Raises `ConfigError` when the file cannot be imported or has no such function.
    """
    function = getattr(_import(name.path.resolve(), str(name)), name.function, None)
    if not callable(function):
        raise ConfigError(f"reward: {name}: the file has no function {name.function!r}.")
    parameters = inspect.signature(function).parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    required = {p.name for p in parameters if p.name in named and p.default is p.empty}

    @wraps(function)
    def reward(**batch: Any) -> list[float | None]:
        if missing := sorted(required - set(batch)):
            columns = ", ".join(key for key in batch if key not in ("log_extra", "log_metric", "trainer_state"))
            raise DataError(f"reward: {name} takes {missing[0]!r}, which the data does not have. It has {columns}.")
        arguments = batch if takes_all else {key: value for key, value in batch.items() if key in named}
        try:
            values = function(**arguments)
            if inspect.isawaitable(values):
                values = asyncio.run(_result(values))
        except Exception as error:
            raise DataError(f"reward: {name} failed with {_place(error)}.") from error
        return _checked(values, len(batch["completions"]), name)

    reward.__name__ = name.function
    return reward


@cache
def _import(path: Path, name: str) -> ModuleType:
    """The file as a module, once a process, so that what it holds is shared by all that grade with it."""
    spec = importlib.util.spec_from_file_location(f"reward_of_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"reward: {name}: {path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # it may import its neighbours
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"reward: {name} cannot be imported: {_place(error)}.") from error
    return module


async def _result(awaitable: Any) -> Any:
    return await awaitable


def _place(error: Exception) -> str:
    """The error, and the line of the user's file where it arose."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    where = f" (line {last.lineno} of {last.filename})" if last and last.filename != __file__ else ""
    return f"{type(error).__name__}: {error}{where}".rstrip(".")


def _checked(values: Any, expected: int, name: OwnFunction) -> list[float | None]:
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise DataError(
            f"reward: {name} returned {type(values).__name__}: return a list with a number for each answer."
        )
    if len(values) != expected:
        raise DataError(
            f"reward: {name} returned {len(values)} rewards for {expected} answers: return one for each, in order, and "
            "None for an answer that cannot be judged."
        )
    return [_number(value, name) for value in values]


def _number(value: Any, name: OwnFunction) -> float | None:
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not abs(number) <= _LARGEST:  # NaN, too
        raise DataError(
            f"reward: {name} returned {value!r} as a reward: return a finite number of at most 1e9, or None for an "
            "answer that cannot be judged."
        )
    return number
