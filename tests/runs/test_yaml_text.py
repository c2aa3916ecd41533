"""The YAML of recipes: what is read is what was written, and any text is a value or a ConfigError."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difference_feedback.errors import ConfigError
from difference_feedback.runs.text_file import read_text
from difference_feedback.runs.yaml_text import dump_yaml, parse_yaml, read_yaml

TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffe\uffff", max_codepoint=0xFFFF)
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=20
)
WORDS = ["a", ":", "- ", "{", "}", "[", "]", "&x ", "*x", "<<", "|\n", ">", "!!str ", "!", "'", '"', "\\x00", "#", "\t"]
WORDS += ["1e-4", ".nan", "0x1F", "1_0", "? ", ", ", "\n", "\n  ", "---\n", "...", "%YAML 1.1", "2026-01-01", "~", "é"]


@given(VALUES)
def test_what_is_dumped_is_read_as_the_same(value: Any) -> None:
    again = parse_yaml(dump_yaml(value), "dump")
    assert again == value
    assert repr(again) == repr(value)  # 1 is not 1.0, and not true


@given(
    st.sampled_from(["1e-4", "1e5", "010", "1:30", "2026-01-01", "yes", "no", "null", "~", "0x10", "<<", "=", "1_000"])
)
def test_a_text_that_looks_like_something_else_stays_a_text(text: str) -> None:
    assert parse_yaml(dump_yaml({"a": [text]}), "dump") == {"a": [text]}


@given(st.lists(st.sampled_from(WORDS), max_size=25).map("".join) | st.text())
def test_any_text_is_a_value_or_an_error_that_names_its_source(text: str) -> None:
    message = "SOURCE"
    try:
        parse_yaml(text, "SOURCE")
    except ConfigError as error:
        message = str(error)
    assert message.startswith("SOURCE")
    assert len(message) < 600


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1.e5", 1e5),
        ("+.5", 0.5),
        ("1_000", 1000),
        ("0x1F", 31),
        ("-7", -7),
        (".inf", float("inf")),
        ("1e400", float("inf")),
        ("010", "010"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("no", "no"),
        ("=", "="),
        ("!!str 3", "3"),
        ("9223372036854775807", 2**63 - 1),
        ("{a: &x {b: 1, c: 2}, d: {<<: *x, c: 3}}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        ("[&x [1], *x]", [[1], [1]]),
        ("\ufeffa: 1", {"a": 1}),
        ("", None),
    ],
)
def test_values_are_read_as_people_mean_them(text: str, value: Any) -> None:
    assert parse_yaml(text, "text") == value


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_byte_order_mark_says_how_a_file_is_read(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(f"a: Größe{end}b: |{end}  x{end}  y{end}".encode(encoding))
    assert read_yaml(path) == {"a": "Größe", "b": "x\ny\n"}
    assert read_text(path) == "a: Größe\nb: |\n  x\n  y\n"
