"""The table of equations names functions and tests that exist, and leaves no equation out."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "docs" / "paper_to_code.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", TABLE)))


@pytest.mark.parametrize(("file", "name"), NAMES)
def test_name_exists(file, name):
    folder = "tests" if Path(file).name.startswith("test_") else "src/difference_feedback"
    tree = ast.parse((ROOT / folder / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_every_equation_has_a_row():
    rows = re.findall(r"^\| (\d+)(?:-(\d+))? \|", TABLE, flags=re.MULTILINE)
    covered = {number for first, last in rows for number in range(int(first), int(last or first) + 1)}
    assert covered == set(range(1, 30))
