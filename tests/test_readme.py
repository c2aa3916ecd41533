"""The quickstart's code runs, and the README's tree is the package's. Links: `tests/docs`."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")


def test_the_mask_example_prints_what_it_says(capsys):
    code = re.findall(r"```python\n(.*?)```", QUICKSTART, re.DOTALL)[0]
    exec(compile(code, "quickstart.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "['5', '8', '17', '17']"
    assert abs(float(printed[1]) - 4 / 13) < 1e-9


def test_the_tree_names_every_package_once_and_nothing_else():
    tree = re.findall(r"```\nsrc/difference_feedback/\n(.*?)```", README, re.DOTALL)[0]
    lines = [line.strip().split("  ")[0].split() for line in tree.splitlines()]
    packages = [name.rstrip("/") for line in lines[:-1] for name in line]
    source = ROOT / "src" / "difference_feedback"
    assert sorted(packages) == sorted(path.parent.name for path in source.glob("*/__init__.py"))
    assert all((ROOT / folder).is_dir() for folder in lines[-1])
