"""A hash of every file that the tests of the verl host can reach: while it does not change, they need not run again.

Reached are the files of the host, of its tests and of its recipes; the modules that they import, at the top or inside a
function, or start by name (`python -m difference_feedback.cli`); what those import; and the files that one of them
names and that lie beside it, such as the shipped model. Run it with `--files` to list them.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "difference_feedback"
CLI = {f"{PACKAGE}.cli", f"{PACKAGE}.commands"}
"""The command line imports every command. Of these only what runs on import is reached, but for `FOLLOWED`."""
FOLLOWED = {f"{PACKAGE}.commands.train", f"{PACKAGE}.commands.arguments"}
OTHER_HOST = (f"{PACKAGE}.commands.train", f"{PACKAGE}.policy")
"""The same command on TRL: this import is not followed."""


def fingerprint(root: Path) -> str:
    """SHA-256 over the paths and contents of `files`."""
    digest = hashlib.sha256()
    for path in files(root):
        digest.update(
            f"{path.relative_to(root).as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
        )
    return digest.hexdigest()


def files(root: Path) -> list[Path]:
    """The files of the checkout at `root` that verl's tests can reach, sorted."""
    modules = {
        name_of(path, folder): path
        for folder in (root / "tests", root / "tests" / "verl", root / "src")
        for path in folder.rglob("*.py")
    }
    host, tests = root / "src" / PACKAGE / "verl", root / "tests" / "verl"
    starts = {*host.rglob("*.py"), *tests.rglob("*.py"), root / "tests" / "conftest.py"} - {tests / "fingerprint.py"}
    reached, waiting = set[Path](), [name for name, path in modules.items() if path in starts]
    while waiting:
        name = waiting.pop()
        path = modules[name]
        if path not in reached:
            reached.add(path)
            waiting += imported(name, path, modules)
    beside = {file for path in reached for file in files_beside(path)}
    recipes = {file for file in (root / "recipes" / "verl").rglob("*") if file.is_file()}
    named = set.union(*map(strings, starts)) - {file.stem for file in recipes}
    recipes |= {file for file in (root / "recipes").glob("*.yaml") if file.stem in named}
    return sorted({*reached, *beside, *recipes, tests / "requirements.txt"})


def name_of(path: Path, folder: Path) -> str:
    """`package.module` of a file below a folder of modules; a package is called as its folder."""
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(name: str, path: Path, modules: dict[str, Path]) -> set[str]:
    """The modules among `modules` that one of them imports or starts, and the packages that they are in."""
    in_functions = name in FOLLOWED or not (name in CLI or name.rpartition(".")[0] in CLI)
    names = set()
    for node in nodes(ast.parse(path.read_bytes()), in_functions, for_types=name == PACKAGE):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(f"{PACKAGE}."):
            names.add(node.value)
    parents = {name.rsplit(".", count)[0] for name in names for count in range(name.count(".") + 1)}
    return {
        inner for inner in parents & set(modules) if not (name == OTHER_HOST[0] and inner.startswith(OTHER_HOST[1]))
    }


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


def strings(path: Path) -> set[str]:
    """The string constants of a module."""
    tree = ast.parse(path.read_bytes())
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def files_beside(path: Path) -> Iterator[Path]:
    """Files in a module's folder that it names, and all files of folders there that it names; modules are not meant."""
    named = strings(path)
    for entry in path.parent.iterdir():
        if entry.name in named and entry.suffix != ".py" and not (entry / "__init__.py").is_file():
            yield from (file for file in [entry, *entry.rglob("*")] if file.is_file())


if __name__ == "__main__":
    checkout = Path(__file__).resolve().parents[2]
    if "--files" in sys.argv:
        print(*(path.relative_to(checkout) for path in files(checkout)), sep="\n")
    else:
        print(fingerprint(checkout))
