"""Packages import downwards, and nothing imports in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "difference_feedback"
NAME = PACKAGE.name
LAYERS = (
    "cli",
    "commands",
    "annotate",
    "bench",
    "report",
    "verl",
    "policy",
    "repair",
    "trl",
    "judges",
    "models",
    "world",
    "data",
    "method",
    "runs",
    "errors",
)
"""From the top down: a package imports those after it, and none before it."""


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(path: Path) -> set[str]:
    """The package's own modules that a file imports anywhere: at its top, in a function, or for types alone."""
    inside = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name == NAME or name.startswith(f"{NAME}."):
                inner = name.removeprefix(NAME).lstrip(".")
                while inner not in MODULES:
                    inner = inner.rpartition(".")[0]
                inside.add(inner)
    return inside - {""}


GRAPH = {name: imports_of(path) for name, path in MODULES.items() if name}


def test_every_module_has_a_layer():
    assert {name.partition(".")[0] for name in GRAPH} == set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_lead_downwards(layer):
    above = LAYERS[: LAYERS.index(layer)]
    upwards = {
        f"{module} imports {imported}"
        for module, below in GRAPH.items()
        for imported in below
        if module.partition(".")[0] == layer and imported.partition(".")[0] in above
    }
    assert not upwards


def test_no_module_imports_itself_by_way_of_others():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_nothing_but_the_entry_points_stands_at_the_root():
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "cli.py", "errors.py"}


def public_names() -> dict[str, list[str]]:
    """Name of a public class or type alias -> the modules that define it."""
    places: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            name = defined_type(node)
            if name and not name.startswith("_"):
                places.setdefault(name, []).append(module)
    return places


def defined_type(node: ast.stmt) -> str | None:
    """The class or type alias that a statement defines: `class X`, `X: TypeAlias = ...`, `X = A | B`, `X = list[A]`."""
    match node:
        case ast.ClassDef(name=name):
            return name
        case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id="TypeAlias")):
            return name
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript() | ast.BinOp(op=ast.BitOr())):
            return name if name[0].isupper() and not name.isupper() else None
    return None


def test_no_type_is_defined_twice() -> None:
    twice = {name: modules for name, modules in public_names().items() if len(modules) > 1}
    assert not twice
