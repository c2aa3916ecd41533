"""YAML files that are none, or that are made to hang a reader: each is refused in a second, with one short sentence.

It names the file and, where it is known, the line. One parser reads recipes, plans, run folders and `key=value`.
"""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from difference_feedback.errors import ConfigError
from difference_feedback.report.benchmarks import benchmark_folders
from difference_feedback.runs.folder import Run
from difference_feedback.runs.loading import build_recipe, load_recipe
from difference_feedback.runs.recipes import BenchRecipe, Recipe, TrainRecipe
from difference_feedback.runs.yaml_text import DEEPEST, MOST_VALUES, parse_yaml

pytestmark = pytest.mark.faults

SECONDS = 1.0  # of the processor: others may use the machine as well
LAUGHS = "kind: train\na: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
CHAIN = "kind: train\na0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 3000))
BAD_TEXTS = {
    # name: text, and whether its place is known
    "NUL": ("kind: train\nseed: \0", True),
    "NUL by an escape": ('kind: train\nmodel: "a\\0b"', True),
    "a control character": ("kind: train\nmodel: a\x1b[31mb", True),
    "a control character by an escape": ('kind: train\nmodel: "\\e[31m"', True),
    "half a surrogate by an escape": ('kind: train\nmodel: "\\ud83d"', True),
    "beyond Unicode": ('kind: train\nmodel: "\\U00110000"', False),
    "itself": ("&a [*a]", True),
    "itself, deeper": ("kind: train\ntrl: &t {a: {b: [*t]}}", True),
    "brackets": ("[" * 10_000, True),
    "braces": ("{a: " * 10_000, True),
    "dashes": ("- " * 10_000, True),
    "mappings": ("".join(" " * i + "a:\n" for i in range(1_300)), True),
    "keys of keys": ("? " * 10_000, True),
    "billion laughs": (LAUGHS, True),
    "billion laughs by merging": (LAUGHS.replace("[", "[{").replace("]", "}]"), True),
    "a chain of aliases": (CHAIN, True),
    "many merges": ("a: &a {x: 1}\nb: {<<: [" + ",".join(["*a"] * 9_000) + "]}", True),
    "many keys": ("kind: train\n" + "".join(f"k{i}: 1\n" for i in range(60_000)), True),
    "many keys in a line": ("{" + ",".join(f"k{i}: 1" for i in range(60_000)) + "}", True),
    "an unknown alias": ("kind: train\nseed: *nothing", True),
    "a very long alias": ("a: *" + "a" * 900_000, True),
    "an anchor twice": ("a: &a 1\nb: &a 2", True),
    "two documents": ("kind: train\n---\nkind: train", True),
    "many documents": ("---\n" * 200_000, True),
    "a tab": ("kind: train\ntrl:\n\tmax_steps: 1", True),
    "a key twice": ("kind: train\nseed: 1\nseed: 2", True),
    "a key twice, below": ("kind: train\ntrl: {max_steps: 1, max_steps: 2}", True),
    "a number as a key": ("kind: train\n1: 2", True),
    "a truth value as a key": ("kind: train\ntrue: 2", True),
    "nothing as a key": ("kind: train\n~: 2", True),
    "a list as a key": ("kind: train\n? [a]\n: 2", True),
    "a mapping as a key": ("kind: train\n{a: 1}: 2", True),
    "a list as a key that is merged": ("kind: train\ntrl: {<<: {[a]: 2}}", True),
    "a number as a key that is merged": ("kind: train\ntrl: &a {1: 2}\nverl: {<<: *a}", True),
    "a key twice that is merged": ("kind: train\ntrl: {<<: {a: 1, a: 2}}", True),
    "a long number": ("kind: train\nseed: " + "1" * 5_000, True),
    "a long hexadecimal number": ("kind: train\nseed: 0x" + "f" * 5_000, True),
    "10**400": ("kind: train\nseed: 1" + "0" * 400, True),
    "a tag of Python's": ("kind: train\nseed: !!python/object/apply:os.system [id]", True),
    "a tag of one's own": ("kind: train\nseed: !secret x", True),
    "binary": ("kind: train\nseed: !!binary aGk=", True),
    "a set": ("kind: train\ntasks: !!set {count}", True),
    "an open quote": ("kind: train\nmodel: 'x", True),
    "an open bracket": ("kind: train\ntasks: [count", True),
    "another version": ("%YAML 9.9\n---\nkind: train", True),
    "directives": ("%" * 1_000, True),
    "anchors": ("&a " * 10_000, True),
    "colons": (": " * 100_000, True),
    "a merge of a number": ("kind: train\n<<: 3", True),
    "too long": ("# " + "x" * 2_000_000, False),
}
NO_RECIPE = {
    "nothing": b"",
    "a comment": b"# nothing\n",
    "a list": b"- kind: train",
    "a text": b"train",
    "a number": b"3",
    "null": b"null",
    "Latin-1": "kind: train\nmodel: Größe".encode("latin-1"),
    "UTF-16 without a mark": "kind: train\n".encode("utf-16-le"),
    "UTF-16, cut": "kind: train\n".encode("utf-16")[:-1],
    "UTF-8, cut": "kind: train\nmodel: é".encode()[:-1],
    "a PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "zeros": b"\0" * 4_096,
    "100 MB": b"# x\n" * 25_000_000,
    "another kind": b"kind: [train]",
    "no kind": b"seed: 1",
}


def refused(call: Callable[[], object], name: str) -> str:
    start = time.process_time()
    with pytest.raises(ConfigError) as caught:
        call()
    assert time.process_time() - start < SECONDS
    message = str(caught.value)
    assert name in message
    assert len(message) < 2_000
    return message


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_a_bad_text_is_refused_wherever_yaml_is_read(tmp_path: Path, name: str) -> None:
    text, has_place = BAD_TEXTS[name]
    run = tmp_path / "run"
    run.mkdir()
    path = run / "config.yaml"
    path.write_text(text, encoding="utf-8")
    kinds: list[type[Recipe]] = [TrainRecipe, BenchRecipe]
    for kind in kinds:
        message = refused(partial(load_recipe, path, kind), str(path))
        assert ("line" in message) == has_place
    refused(lambda: build_recipe(TrainRecipe, {}, [f"trl={text}"]), "override")
    refused(lambda: benchmark_folders(tmp_path), str(path))
    (run / "metrics.jsonl").touch()  # the run has begun
    refused(lambda: Run(run, TrainRecipe()), str(path))


@pytest.mark.parametrize("name", NO_RECIPE)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(NO_RECIPE[name])
    refused(lambda: load_recipe(path, TrainRecipe), str(path))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path in (
        tmp_path,
        tmp_path / "pipe",
        tmp_path / "loop",
        tmp_path / "none",
        Path("/dev/null"),
        Path("/dev/zero"),
    ):
        refused(partial(load_recipe, path, TrainRecipe), str(path))
    for name in ("x" * 5_000, "a/" * 3_000, "a\0b", "", "~nobody_here", "\udcff"):
        refused(partial(load_recipe, name, TrainRecipe), name[:50])


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("kind: train\n", encoding="utf-8")

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)  # a user that is root may read everything
    assert "Permission denied" in refused(lambda: load_recipe(path, TrainRecipe), str(path))


def test_the_limits_themselves_are_within_reach() -> None:
    most = "[" + ",".join(["1"] * (MOST_VALUES - 1)) + "]"
    start = time.process_time()
    assert len(parse_yaml(most, "text")) == MOST_VALUES - 1
    assert time.process_time() - start < SECONDS
    assert parse_yaml("[" * DEEPEST + "]" * DEEPEST, "text")
    assert len(parse_yaml("a: " + "x" * 900_000, "text")["a"]) == 900_000
