"""From a file and `key=value` overrides to a recipe, and back to YAML.

A recipe is a YAML mapping whose `kind` says what it runs. Every mistake in it ends in a `ConfigError` that names the
place, the key and the nearest thing that would have worked.
"""

import hashlib
import os.path
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from difference_feedback.errors import ConfigError
from difference_feedback.runs.model_folder import model_of
from difference_feedback.runs.renamed import rename, rename_setting
from difference_feedback.runs.sections import Section
from difference_feedback.runs.validation import describe, explain, nearest, shorten
from difference_feedback.runs.yaml_text import DEEPEST, dump_yaml, parse_yaml, read_yaml

R = TypeVar("R", bound=Section)
MOST_PROBLEMS = 20
"""Mistakes that one message names."""
MODELS = ("model", "repair_model", "policy")
"""Keys of recipes that name models."""


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that come with the package, in a wheel and in a checkout alike."""
    package = Path(__file__).parents[1]
    folder = next((f for f in (package / "shipped_recipes", package.parents[1] / "recipes") if f.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {}


def load_recipe(source: str | Path, kind: type[R], overrides: Sequence[str] = ()) -> R:
    """Load a recipe: a YAML file or a shipped one's name, with `key=value` overrides (dotted keys for nested ones).

    Raises `ConfigError` for a missing file, text that is not YAML, another kind of recipe, an unknown key or a value
    of the wrong type; the message names the file or the override, the key, and the nearest valid one.
    """
    return build_recipe(kind, load_values(source, kind), overrides, source=str(_find(source)))


def load_values(source: str | Path, kind: type[Section]) -> dict[str, Any]:
    """A recipe's values as its file has them, by today's names. Only its kind is checked. Raises as `load_recipe`."""
    path = _find(source)
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of keys to values, this is {describe(values)}.")
    if values.get("kind") != _name_of(kind):
        raise ConfigError(
            f"{path}: kind is {shorten(repr(values.get('kind')))}, this command runs recipes with "
            f"`kind: {_name_of(kind)}`."
            + _shipped_of(_name_of(kind))
            + (" A demo is a plan of the bench now: recipes/demo.yaml shows its keys." * (values.get("kind") == "demo"))
        )
    return rename(_name_of(kind), values, str(path))


def build_recipe(kind: type[R], values: Mapping[str, Any], overrides: Sequence[str] = (), source: str = "recipe") -> R:
    """Check `values` with the overrides applied; `source` is what error messages call their origin.

    Where a key wants a model, a run's folder stands for the model in it.
    """
    complete = rename(_name_of(kind), values, source)
    overridden: dict[str, str] = {}
    for override in overrides:
        key, separator, text = override.partition("=")
        place = f"override {shorten(repr(override))}"
        parts = key.split(".")
        if not separator or not all(parts) or any(part != part.strip() for part in parts) or len(parts) > DEEPEST:
            raise ConfigError(f"{place}: write it as key=value, for example seed=1 or trl.max_steps=100.")
        key, value = rename_setting(_name_of(kind), key, _value_in(text, place), place)
        for name, before in overridden.items():
            if name.startswith(f"{key}."):
                raise ConfigError(
                    f"{place}: {name} is given by {shorten(repr(before))} already: leave one of them out."
                )
        overridden[key] = override
        _assign(complete, key, value)
    for key in MODELS:
        if isinstance(model := complete.get(key), str):
            complete[key] = model_of(model)
    try:
        return kind.model_validate(complete)
    except ValidationError as error:
        problems = list(dict.fromkeys(explain(kind, dict(item), overridden, source) for item in error.errors()))
        more = [f"... and {len(problems) - MOST_PROBLEMS} mistakes more."] if len(problems) > MOST_PROBLEMS else []
        raise ConfigError("\n".join(problems[:MOST_PROBLEMS] + more)) from None


def _value_in(text: str, place: str) -> Any:
    """The value of an override. A text without quotes stays as it is: `#` begins no comment, and lines stay lines."""
    value, bare = parse_yaml(text, place), text.strip()
    is_plain = bare[:1] not in ("'", '"', "|", ">", "&", "!", "") and ("#" in bare or "\n" in bare)
    return bare if is_plain and (value is None or isinstance(value, str)) else value


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `changes` put over them, mappings merged key by key."""
    both = dict(values)
    for key, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(both.get(key), Mapping)
        both[key] = merged(both[key], value) if nested else value
    return both


def dump_recipe(recipe: Section) -> str:
    """The recipe with every default spelled out, as YAML that loads to the same recipe."""
    return dump_yaml(recipe.model_dump(mode="json"))


def fingerprint(recipe: Section) -> str:
    """Eight characters that differ between recipes: the name under which what they make is kept."""
    return hashlib.sha256(dump_recipe(recipe).encode()).hexdigest()[:8]


def _find(source: str | Path) -> Path:
    path, shipped = Path(source), shipped_recipes()
    if os.path.isfile(path):
        return path
    if str(source) in shipped:
        return shipped[str(source)]
    name = shorten(str(source))
    if os.path.exists(path):
        what = "a folder" if os.path.isdir(path) else "no ordinary file"
        raise ConfigError(f"{name}: this is {what}: give a YAML file, or the name of a shipped recipe.")
    raise ConfigError(f"{name}: no such file, and no shipped recipe has this name.{nearest(name, shipped)}")


def _name_of(kind: type[Section]) -> str:
    return str(kind.model_fields["kind"].default)


def _shipped_of(kind: str) -> str:
    names = [n for n, path in shipped_recipes().items() if f"kind: {kind}\n" in path.read_text(encoding="utf-8")]
    return f" Shipped ones: {', '.join(names)}." if names else ""


def _assign(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(values.get(parent), dict):
            values[parent] = {}
        values = values[parent]
    values[last] = value
