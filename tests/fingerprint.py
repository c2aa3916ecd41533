"""A hash of every file that a folder of slow tests can reach: while it does not change, they need not run again.

Reached are the tests, the host and the recipes that they are for; the modules that they import, at the top or inside a
function, or start by name (`python -m difference_feedback.cli`); what those import; and the files that one of them
names and that lie beside it, such as the shipped model.

Usage: python tests/fingerprint.py verl|distributed|benchmarks [--files]    with --files, it lists them
"""

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGE = "difference_feedback"
CLI = {f"{PACKAGE}.cli", f"{PACKAGE}.commands"}
"""The command line imports every command. Of these only what runs on import is reached, but for `FOLLOWED`."""


class Suite(NamedTuple):
    """What a folder of tests is for."""

    host: str | None
    """The package all of whose modules are reached, whether or not a test imports them."""
    recipes: str
    """The folder below `recipes` whose files are all reached."""
    followed: set[str]
    """Commands whose functions run."""
    other_host: str
    """The command `train` on the other host: its imports of this package are not followed."""


COMMANDS = f"{PACKAGE}.commands"
SUITES = {
    "verl": Suite("verl", "verl", {f"{COMMANDS}.train", f"{COMMANDS}.arguments"}, f"{PACKAGE}.policy"),
    "distributed": Suite(None, "accelerate", {f"{COMMANDS}.evaluate", f"{COMMANDS}.arguments"}, f"{PACKAGE}.verl"),
    "benchmarks": Suite(None, "benchmarks", {f"{COMMANDS}.evaluate", f"{COMMANDS}.report"}, f"{PACKAGE}.verl"),
}


def fingerprint(root: Path, folder: str) -> str:
    """SHA-256 over the paths and contents of `files`."""
    digest = hashlib.sha256()
    for path in files(root, folder):
        digest.update(
            f"{path.relative_to(root).as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
        )
    return digest.hexdigest()


def files(root: Path, folder: str) -> list[Path]:
    """The files of the checkout at `root` that the tests in `tests/FOLDER` can reach, sorted."""
    suite, tests = SUITES[folder], root / "tests" / folder
    modules = {
        name_of(path, parent): path for parent in (tests, root / "tests", root / "src") for path in parent.rglob("*.py")
    }
    starts = {*tests.rglob("*.py"), root / "tests" / "conftest.py"}
    if suite.host:
        starts |= set((root / "src" / PACKAGE / suite.host).rglob("*.py"))
    reached, waiting = set[Path](), [name for name, path in modules.items() if path in starts]
    while waiting:
        name = waiting.pop()
        path = modules[name]
        if path not in reached:
            reached.add(path)
            waiting += imported(name, path, modules, suite)
    beside = {file for path in reached for file in files_beside(path)}
    recipes = {file for file in (root / "recipes" / suite.recipes).rglob("*") if file.is_file()}
    named = frozenset[str]().union(*(strings(path.read_bytes()) for path in starts)) - {file.stem for file in recipes}
    recipes |= {file for file in (root / "recipes").glob("*.yaml") if file.stem in named}
    return sorted({*reached, *beside, *recipes, *tests.glob("requirements.txt")})


def name_of(path: Path, folder: Path) -> str:
    """`package.module` of a file below a folder of modules; a package is called as its folder."""
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(name: str, path: Path, modules: dict[str, Path], suite: Suite) -> set[str]:
    """The modules among `modules` that one of them imports or starts, and the packages that they are in."""
    in_functions = name in suite.followed or not (name in CLI or name.rpartition(".")[0] in CLI)
    names = names_in(path.read_bytes(), in_functions, for_types=name == PACKAGE)
    parents = {name.rsplit(".", count)[0] for name in names for count in range(name.count(".") + 1)}
    on_other_host = f"{COMMANDS}.train", suite.other_host
    return {inner for inner in parents & set(modules) if (name, inner[: len(suite.other_host)]) != on_other_host}


@cache
def names_in(source: bytes, in_functions: bool, for_types: bool) -> frozenset[str]:
    """What a module imports, and its strings that may be names of modules of the package; see `nodes`."""
    names = set()
    for node in nodes(ast.parse(source), in_functions, for_types):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(f"{PACKAGE}."):
            names.add(node.value)
    return frozenset(names)


def nodes(tree: ast.AST, in_functions: bool, for_types: bool) -> Iterator[ast.AST]:
    """All nodes, but for the bodies of functions unless `in_functions`, and of `if TYPE_CHECKING` unless `for_types`.

    The package's own `__init__` imports later what its `if TYPE_CHECKING` imports for types.
    """
    for node in ast.iter_child_nodes(tree):
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        types = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        if (function and not in_functions) or (types and not for_types):
            continue
        yield node
        yield from nodes(node, in_functions, for_types)


@cache
def strings(source: bytes) -> frozenset[str]:
    """The string constants of a module."""
    return frozenset(
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def files_beside(path: Path) -> Iterator[Path]:
    """Files in a module's folder that it names, and all files of folders there that it names; modules are not meant."""
    named = strings(path.read_bytes())
    for entry in path.parent.iterdir():
        if entry.name in named and entry.suffix != ".py" and not (entry / "__init__.py").is_file():
            yield from (file for file in [entry, *entry.rglob("*")] if file.is_file())


if __name__ == "__main__":
    checkout = Path(__file__).resolve().parents[1]
    if "--files" in sys.argv:
        print(*(path.relative_to(checkout) for path in files(checkout, sys.argv[1])), sep="\n")
    else:
        print(fingerprint(checkout, sys.argv[1]))
