"""Whether two folders of runs hold the same, but for clocks: bytes of weights, rows, summaries, names of files."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HOLD_CLOCKS = {"trainer_state.json", "training_args.bin"}
CLOCK = re.compile(r"second|time|cost|eq29|spent")
LEFT_OUT = re.compile(r"(^|/)(training_args\.bin|\.holder|[^/]*\.lock)$|\.log$")
"""Locks, logs, and `training_args.bin`, which holds the time at which it was made."""


def contents(folder: Path) -> dict[str, Any]:
    """Relative path -> what a file holds. Numbers under the name of a clock are replaced by the word."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink() or not path.is_file() or LEFT_OUT.search(name):
            continue
        data = path.read_bytes()
        parts = {".jsonl": data.splitlines(), ".json": [data]}.get(path.suffix)
        try:
            found[name] = [_timeless(json.loads(part)) for part in parts] if parts else data
        except ValueError:  # a file that was cut off
            found[name] = data
    return found


def differences(expected: dict[str, Any], actual: dict[str, Any]) -> list[str]:
    """What is missing, what is left over and what differs, one line each, by path and key."""
    lines = [f"{name} is missing" for name in expected.keys() - actual.keys()]
    lines += [f"{name} is left over" for name in actual.keys() - expected.keys()]
    for name in expected.keys() & actual.keys():
        lines += [f"{name} {place}" for place in _places(expected[name], actual[name])]
    return sorted(lines)


def _timeless(value: Any, clock: bool = False) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("curve"), list):  # a bench's row: CPU seconds, accuracy, problems
            value = value | {"curve": [{"cpu_seconds": seconds, "rest": rest} for seconds, *rest in value["curve"]]}
        if isinstance(value.get("sizes"), dict):  # a checkpoint's seal: the length of a file that holds clocks
            value = value | {"sizes": value["sizes"] | dict.fromkeys(HOLD_CLOCKS & value["sizes"].keys())}
        return {name: _timeless(item, clock or bool(CLOCK.search(name))) for name, item in value.items()}
    if isinstance(value, list):
        return [_timeless(item, clock) for item in value]
    return "a clock" if clock and isinstance(value, int | float) else value


def _places(expected: Any, actual: Any, key: str = "") -> Iterator[str]:
    if isinstance(expected, dict) and isinstance(actual, dict):
        for name in sorted(expected.keys() | actual.keys()):
            if name not in expected or name not in actual:
                yield f"{key}.{name}: {'only in the resumed run' if name in actual else 'not in the resumed run'}"
            else:
                yield from _places(expected[name], actual[name], f"{key}.{name}")
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            yield f"{key}: {len(actual)} entries instead of {len(expected)}"
        for number, pair in enumerate(zip(expected, actual, strict=False)):
            yield from _places(*pair, f"{key}[{number}]")
    elif expected != actual:
        plain = not isinstance(expected, bytes) and not isinstance(actual, bytes)
        yield f"{key}: {actual!r} instead of {expected!r}" if plain else "differs"
