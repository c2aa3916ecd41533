"""Checks of recipes: the nearest valid name, pydantic's errors in plain words, and the settings of a trainer."""

import dataclasses
import difflib
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from difference_feedback.errors import ConfigError

C = TypeVar("C")
_FEW = 2
"""Of at most so many keys in other sections, each may be the one that was meant. Many sections have a `model`."""


def build_config(config_class: type[C], values: Mapping[str, Any], *, source: str = "trl", **fixed: Any) -> C:
    """Make a trainer's dataclass configuration from a recipe's `trl:` mapping and the values the run itself `fixed`.

    Keys and types are checked against the dataclass's own fields before it is made, so that a misspelt setting is
    found by name. What the class itself refuses is raised as `ConfigError` too.
    """
    hints = typing.get_type_hints(config_class)
    names = {field.name for field in dataclasses.fields(config_class) if field.init}  # type: ignore[arg-type]
    typed: dict[str, Any] = {}
    for key, value in values.items():
        if key in fixed:
            raise ConfigError(f"{source}.{key} is set by the run itself: leave it out of the recipe.")
        if key not in names:
            raise ConfigError(f"{source}: {config_class.__name__} has no setting {key!r}.{nearest(key, names)}")
        typed[key] = check_value(f"{source}.{key}", hints[key], value)
    try:
        return config_class(**{**typed, **fixed})
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    except Exception as error:  # whatever a library raises about its settings
        message = shorten(str(error).rstrip("."), 500)
        keys = ", ".join(f"{source}.{key}" for key in _causes(config_class, typed, fixed, str(error)))
        raise ConfigError(f"{keys or source}: {config_class.__name__} refuses these settings: {message}.") from error


def check_value(place: str, kind: Any, value: Any) -> Any:
    """The value; a whole number becomes a float where `kind` is one.

    Raises `ConfigError` where it is not of the type and in the range of `kind`. Numbers must be finite.
    """
    config = ConfigDict(arbitrary_types_allowed=True, strict=True, allow_inf_nan=False)
    try:
        return TypeAdapter(kind, config=config).validate_python(value)
    except ValidationError as error:
        raise ConfigError(f"{place}: got {describe(value)}, wanted {wanted(error)}.") from None


def _causes(config_class: type[C], values: Mapping[str, Any], fixed: Mapping[str, Any], message: str) -> Iterator[str]:
    """The keys in `values` without which the class does not refuse them, or not with this message."""
    for key in values:
        try:
            config_class(**{name: value for name, value in values.items() if name != key}, **fixed)
        except Exception as error:
            if str(error) == message:
                continue
        yield key


def explain(kind: type[BaseModel], item: Mapping[str, Any], overridden: Mapping[str, str], source: str) -> str:
    """One of pydantic's errors about a recipe, in words: where it stands, what was given, what would have worked.

    `overridden` maps a dotted key to the override that set it; what none did is from `source`.
    """
    location = [str(part) for part in item["loc"]]
    key = ".".join(location)
    *parents, last = location
    place = ".".join(parents) if item["type"] == "missing" else key  # what an override made lacks the key
    below = [name for name in overridden if name.startswith(f"{place}.")]
    by = next((name for name in overridden if key == name or key.startswith(f"{name}.")), next(iter(below), None))
    origin = source if by is None else f"override {overridden[by]!r}"
    if item["type"] == "extra_forbidden":
        elsewhere = [name for name in _keys(kind) if name.rpartition(".")[2] == last]
        if 0 < len(elsewhere) <= _FEW:
            return f"{origin}: unknown key {key!r}. Did you mean {' or '.join(map(repr, elsewhere))}?"
        return f"{origin}: unknown key {key!r}.{nearest(last, _section_at(kind, parents).model_fields)}"
    if item["type"] == "missing":
        return f"{origin}: the key {key!r} is missing and has no default."
    if item["type"] == "model_type":
        needed = [name for name, field in _section_at(kind, location).model_fields.items() if field.is_required()]
        example = f", for example {key}.{needed[0]}=VALUE" if needed else ""
        return f"{origin}: {key}: got {describe(item['input'])}, wanted a mapping{example}."
    remedy = f": write {key}=VALUE" if below and isinstance(item["input"], Mapping) else ""
    return f"{origin}: {key}: got {describe(item['input'])}, wanted {_plain(item['msg'])}{remedy}."


def _keys(kind: type[BaseModel], place: str = "") -> Iterator[str]:
    """The dotted keys of a recipe and of the sections in it. Sections that have names of the user's are left out."""
    for name, field in kind.model_fields.items():
        yield f"{place}{name}"
        if (section := _section_of(field.annotation)) and typing.get_origin(field.annotation) is not dict:
            yield from _keys(section, f"{place}{name}.")


def _section_of(annotation: Any) -> type[BaseModel] | None:
    options = [annotation, *typing.get_args(annotation)]
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


def _section_at(kind: type[BaseModel], location: Sequence[str]) -> type[BaseModel]:
    """The section's class at a dotted place, through `X | None` and mappings of sections by name."""
    for part in location:
        if part not in kind.model_fields:  # the name of one section in a mapping
            continue
        kind = _section_of(kind.model_fields[part].annotation) or kind
    return kind


def wanted(error: ValidationError) -> str:
    """What a value should have been, by pydantic's errors about it; of a choice of types, all of them."""
    return " or ".join(dict.fromkeys(_plain(item["msg"]) for item in error.errors()))


def _plain(message: str) -> str:
    message = message.removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("a valid ")
    return f"a number {message}" if message.startswith(("greater", "less")) else message


def nearest(name: str, valid: Iterable[str]) -> str:
    """` Did you mean ...?` for a misspelt name, or the list of valid ones when none is near."""
    options = sorted(valid)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.55)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Valid: {', '.join(options)}." if len(options) <= 30 else ""


def shorten(text: str, longest: int = 200) -> str:
    """A text for a message, cut where it is longer."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def describe(value: Any) -> str:
    """A value and what it is, in the words of someone who writes YAML."""
    names = {str: "text", dict: "a mapping", list: "a list", bool: "true/false", type(None): "nothing"}
    return f"{shorten(repr(value))} ({names.get(type(value), type(value).__name__)})"
