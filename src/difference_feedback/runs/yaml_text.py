"""YAML as people write it: `1e-4` is a number, `no` is a word, a key given twice is an error.

A file from outside may be anything. Its size, depth and number of values are limited, aliases included, so that every
file is read or refused in about a second.
"""

import re
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.reader import Reader

from difference_feedback.errors import ConfigError
from difference_feedback.runs.text_file import MOST_BYTES, read_text
from difference_feedback.runs.validation import describe, shorten

MOST_VALUES = 10_000
"""Keys and values of a document, with each alias counted as what it stands for. The largest plan has some 500."""
DEEPEST = 50
"""Mappings and lists inside each other."""
_STRING, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


class _Refused(yaml.MarkedYAMLError):
    """What is YAML, and yet no recipe."""


def _refuse(problem: str, mark: Any) -> NoReturn:
    raise _Refused(problem=problem, problem_mark=mark)


def _check_keys(node: yaml.MappingNode) -> None:
    """Before anything is merged into the mapping, or the mapping into another."""
    names: set[str] = set()
    for key, _ in node.value:
        if key.tag == _MERGE:
            continue
        if key.tag != _STRING:
            what = f"the key {key.value}" if isinstance(key, yaml.ScalarNode) else "a key"
            _refuse(f"{what} is no text: put it in quotes", key.start_mark)
        if key.value in names:
            _refuse(f"the key {key.value!r} is given twice", key.start_mark)
        names.add(key.value)


class _Loader(yaml.SafeLoader):
    """Safe loading within the limits, with the habits of YAML 1.1 that bite recipes corrected."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.values = self.depth = 0
        self.sizes: dict[int, tuple[int, int]] = {}
        """Of each finished node: its values, and how deep it is."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self.sizes:
                _refuse(f"the alias *{event.anchor} stands inside what it stands for", event.start_mark)
            size, height = self.sizes[id(node)]
            self._count(size, self.depth + height, event.start_mark)
            return node
        if event.tag not in (None, _STRING):
            _refuse(f"the tag {event.tag} is not allowed: write the value without it", event.start_mark)
        if isinstance(event, yaml.ScalarEvent) and (match := Reader.NON_PRINTABLE.search(event.value)):
            _refuse(f"the text holds the control character U+{ord(match[0]):04X}", event.start_mark)
        before = self.values
        self.depth += 1
        self._count(1, self.depth, event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        assert node is not None
        children = node.value if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            children = [part for pair in node.value for part in pair]
        height = 1 + max((self.sizes[id(child)][1] for child in children), default=0)
        self.sizes[id(node)] = self.values - before, height
        return node

    def _count(self, values: int, depth: int, mark: Any) -> None:
        self.values += values
        if self.values > MOST_VALUES:
            _refuse(f"more than {MOST_VALUES:,} values, those that aliases repeat included", mark)
        if depth > DEEPEST:
            _refuse(f"nested more than {DEEPEST} levels deep", mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)  # the keys of `<<: *other`, under those that stand here
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        digits = len(node.value)
        if digits > 20 or abs(value := super().construct_yaml_int(node)) >= 2**63:
            _refuse(f"a whole number of {digits} characters is too large", node.start_mark)
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
# YAML 1.1 makes truth values of `yes`, `no`, `on` and `off` (`save_strategy: no`), numbers of `010` (8) and `1:30`
# (90), and a date of 2026-01-01, which is the name of a run. It reads `1e-4` as text, since it wants a dot and a signed
# exponent (https://yaml.org/type/float.html).
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9](?:_?[0-9])*)|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", "<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


class _Dumper(yaml.SafeDumper):
    """Puts those texts in quotes, too, that `_Loader` alone takes for numbers."""


_Dumper.yaml_implicit_resolvers = {key: list(pairs) for key, pairs in yaml.SafeDumper.yaml_implicit_resolvers.items()}
for _first, _resolvers in _Loader.yaml_implicit_resolvers.items():
    _Dumper.yaml_implicit_resolvers.setdefault(_first, []).extend(_resolvers)


def dump_yaml(value: Any) -> str:
    """Mappings, lists, texts and numbers as YAML that `parse_yaml` reads as the same; the order of keys stays."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def read_yaml(path: Path) -> Any:
    """Parse a YAML file. Raises `ConfigError` as `read_text` and `parse_yaml`."""
    return parse_yaml(read_text(path), str(path))


def parse_mapping(text: str, source: str) -> dict[str, Any]:
    """Parse YAML that has to be a mapping, empty where there is nothing. Raises `ConfigError` as `parse_yaml`."""
    values = parse_yaml(text, source)
    if values is not None and not isinstance(values, dict):
        raise ConfigError(f"{source}: this is {describe(values)}: it must be a mapping of keys to values.")
    return values or {}


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML safely; what does not parse is a `ConfigError` that names `source`, line and column.

    Refused as well: more than the limits of this module, tags, keys that are no text, control characters, and whole
    numbers beyond 64 bits.
    """
    if len(text) > MOST_BYTES:
        raise ConfigError(f"{source}: longer than {MOST_BYTES:,} characters: this is no recipe.")
    if match := Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, match.start()) + 1
        column = match.start() - text.rfind("\n", 0, match.start())
        remedy = "save it as UTF-8" if match[0] == "\0" else "take it out"
        raise ConfigError(f"{source}, line {line}, column {column}: the character U+{ord(match[0]):04X}: {remedy}.")
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        kind = "" if isinstance(error, _Refused) else "not YAML: "
        context = f"{error.context}, " if isinstance(error, yaml.composer.ComposerError) and error.context else ""
        raise ConfigError(f"{source}{place}: {kind}{shorten(context + str(error.problem))}.") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # ValueError: an escape beyond Unicode
        raise ConfigError(f"{source}: not YAML: {error}.") from None
