"""Names of the release before, in recipes and in rows of files, are read until the next release."""

from collections.abc import Iterator, Mapping
from typing import Any

from difference_feedback.errors import ConfigError
from difference_feedback.runs.terminal import echo

KEYS = {
    "train": {"trl.gate": "trl.weights"},
    "repair-rl": {"visual_gate": "visual_factor"},
    "method": {"hand_repaired_first": "oracle_repairs_first"},
    "difference_feedback": {"gate": "weights"},
}
"""Kind of recipe, or of a part -> old key -> new key, in the same place."""

VALUES = {
    "train": {
        "repair_model": {"annotator": "oracle", "transplant": "blind_rewriter"},
        "trl.weights": {"repaired_only": "repair_only"},
        "trl.length_norm": {"gated": "weights"},
    },
    "method": {"group": {"gate": "weights"}},
}
"""Kind -> today's key -> old value -> new value."""

PARTS = {
    "train": {"verl.difference_feedback": "difference_feedback"},
    "bench": {"train": "train", "repair_sft": "repair-sft", "repair_rl": "repair-rl", "methods.*": "method"},
    "method": {"set": "train"},
}
"""Kind -> where parts stand in it that have names of their own -> their kind. `*` is any key."""

_noted: set[tuple[str, str]] = set()


def rename(kind: str, values: Mapping[str, Any], source: str, *, quiet: bool = False) -> dict[str, Any]:
    """A copy of a recipe's values, or of a part's, by today's names. Every old name is noted once on standard error.

    `kind` is the recipe's, or `method` (of a bench) or `difference_feedback` (the block of a verl configuration).

    Raises `ConfigError` where a key is given by its old and by its new name.
    """
    copied = _copy(values)
    _rename(kind, copied, source, "", quiet)
    return copied


def rename_setting(kind: str, key: str, value: Any, source: str) -> tuple[str, Any]:
    """One dotted key and its value, by today's names."""
    nested = value
    for name in reversed(key.split(".")):
        nested = {name: nested}
    nested = rename(kind, nested, source)
    names = []
    for _ in key.split("."):
        [(name, nested)] = nested.items()
        names.append(name)
    return ".".join(names), nested


def repair_field(row: Mapping[str, Any]) -> str:
    """The name of the field that holds the repaired answer in a row of a file: `repaired` or `repair`."""
    return "repair" if "repair" in row and "repaired" not in row else "repaired"


def _rename(kind: str, values: dict[str, Any], source: str, place: str, quiet: bool) -> None:
    for old, new in KEYS.get(kind, {}).items():
        *parents, was = old.split(".")
        name = new.rpartition(".")[2]
        for section, _ in _sections(values, parents):
            if was not in section:
                continue
            if name in section:
                raise ConfigError(f"{source}: {place}{old} is the old name of {place}{new}, given as well: drop it.")
            current = {name if key == was else key: value for key, value in section.items()}
            section.clear()
            section.update(current)
            if not quiet:
                _note((kind, old), f"{place}{old}", f"{place}{new}", source)
    for key, names in VALUES.get(kind, {}).items():
        *parents, last = key.split(".")
        for section, _ in _sections(values, parents):
            value = section.get(last)
            if isinstance(value, str) and value in names:
                section[last] = names[value]
                if not quiet:
                    _note((kind, f"{key}: {value}"), f"{place}{key}: {value}", f"{place}{key}: {names[value]}", source)
    for key, part in PARTS.get(kind, {}).items():
        for section, where in _sections(values, key.split(".")):
            _rename(part, section, source, f"{place}{where}", quiet)
    if kind == "bench" and isinstance(sweep := values.get("sweep"), dict):
        values["sweep"] = _swept(sweep, source)


def _swept(sweep: dict[str, Any], source: str) -> dict[str, Any]:
    """The swept settings of a bench: dotted key of its `train` recipes -> values."""
    renamed: dict[str, Any] = {}
    for key, values in sweep.items():
        if not isinstance(values, list) or not values:
            renamed[key] = values  # of the wrong type: the recipe's own check says so
            continue
        pairs = [rename_setting("train", str(key), value, source) for value in values]
        renamed[pairs[0][0]] = [value for _, value in pairs]
    return renamed


def _sections(values: Any, path: list[str], where: str = "") -> Iterator[tuple[dict[str, Any], str]]:
    """The mappings at a path in `values`, each with the dotted place where it stands."""
    if not isinstance(values, dict):
        return
    if not path:
        yield values, where
        return
    for key in list(values) if path[0] == "*" else [path[0]]:
        yield from _sections(values.get(key), path[1:], f"{where}{key}.")


def _note(entry: tuple[str, str], old: str, new: str, source: str) -> None:
    if entry not in _noted:
        _noted.add(entry)
        echo(f"Note: {source}: `{old}` is now `{new}`. The old name works until the next release.", err=True)


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}
