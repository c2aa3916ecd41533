"""The core stands alone, and importing the package costs next to nothing."""

import ast
import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

import difference_feedback

CORE = (
    "method.alignment",
    "method.masks",
    "method.groups",
    "method.weighting",
    "method.objectives",
    "method.selection",
    "runs.jsonl",
    "report.mask_pairs",
)
HOSTS = {"transformers", "trl", "verl", "accelerate", "datasets", "peft", "vllm", "ray", "sklearn", "matplotlib"}


def run(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_core_pulls_in_no_host():
    imports = "; ".join(f"import difference_feedback.{name}" for name in CORE)
    loaded = set(run(f"{imports}; import sys; print(*sys.modules)").split())
    assert "difference_feedback.method.objectives" in loaded
    assert {name.partition(".")[0] for name in loaded} & HOSTS == set()


def test_package_alone_imports_neither_torch_nor_a_host():
    loaded = set(run("import difference_feedback, sys; print(*sys.modules)").split())
    assert {name.partition(".")[0] for name in loaded} & {*HOSTS, "torch", "rapidfuzz"} == set()


def test_alignment_needs_no_torch():
    loaded = run(
        "import difference_feedback as df, sys; df.align([1], [2]); df.pad_weights([[1]]); print(*sys.modules)"
    )
    assert "torch" not in loaded.split()


def test_import_takes_less_than_half_a_second_beyond_numpy():
    def seconds(code):
        times = []
        for _ in range(3):
            start = time.perf_counter()
            run(code)
            times.append(time.perf_counter() - start)
        return min(times)

    assert seconds("import numpy, difference_feedback") - seconds("import numpy") < 0.5


def test_type_checkers_and_python_find_every_public_name_in_the_same_module():
    tree = ast.parse(Path(difference_feedback.__file__).read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported = {
        alias.name: node.module
        for node in nodes
        for alias in node.names
        if node.module.startswith("difference_feedback")
    }
    assert set(imported) == set(difference_feedback.__all__) <= set(dir(difference_feedback))
    for name, module in imported.items():
        assert getattr(difference_feedback, name) is getattr(importlib.import_module(module), name)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'aline'"):
        difference_feedback.aline  # noqa: B018
