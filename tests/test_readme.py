"""The README's code runs, and its tree is the package's. Its links: `tests/docs`; its figures: `tests/evidence`."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_mask_example_prints_what_it_says(capsys):
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "['5', '8', '17', '17']"
    assert abs(float(printed[1]) - 4 / 13) < 1e-9


def test_the_tree_names_every_package_once_and_nothing_else():
    tree = re.findall(r"```\n(src/.*?)```", README, re.DOTALL)[0]
    packages = re.findall(r"^  (\w+)/  +\S", tree, re.MULTILINE)
    source = ROOT / "src" / "difference_feedback"
    assert sorted(packages) == sorted(path.parent.name for path in source.glob("*/__init__.py"))
    folders = re.findall(r"^(\w+)/  +\S", tree, re.MULTILINE)
    assert all((ROOT / folder).is_dir() for folder in folders)
