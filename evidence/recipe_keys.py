"""The list of keys in docs/reference/recipe_keys.md, from the docstrings in runs/."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

RUNS = Path(__file__).parents[1] / "src" / "difference_feedback" / "runs"
FILES = ("recipes.py", "repair_check.py", "sections.py", "plan.py")
TYPES = (
    (r"Annotated\[(\w+|list\[\w+\]), BeforeValidator\(.*\)\]", r"\1"),
    (r"Annotated\[str, Field\(min_length=1\)\]", "text"),
    (r"dict\[str, PathOrName\]", "path by name"),
    (r"Annotated\[(?:int|float), Field\(ge=([1-9]\S*), le=(\S+)\)\]", r"\1 to \2"),
    (r"Annotated\[float, Field\(gt=0\.0, le=(\S+)\)\]", r"above 0, at most \1"),
    (r"Annotated\[Temperature, Field\(ge=(\S+)\)\]", r"number from \1"),
    (r"list\[Seed\]", "list[int]"),
    (r"PositiveInt|Concurrency|ProblemCount", "integer from 1"),
    (r"NonNegativeInt|\bSeed\b", "integer from 0"),
    (r"Share", "0 to 1"),
    (r"\bRate\b", "above 0, below 10"),
    (r"Annotated\[Seconds, Field\(ge=\S+\)\]|\bSeconds\b", "number above 0"),
    (r"Annotated\[Temperature, Field\(le=(\S+)\)\]", r"0 to \1"),
    (r"\bTemperature\b", "number from 0"),
    (r"\bPathOrName\b", "path or name"),
    (r"\bBaseURL\b", "base URL"),
    (r"\bVariableName\b", "name of a variable"),
    (r"\bGPUs\b", "text"),
    (r"\bModuleNames\b", "text or list of texts"),
    (r"Annotated\[int, Field\(gt=0, le=(\S+)\)\]", r"1 to \1"),
    (r"Annotated\[(?:int|float), Field\(ge=(?:0|0\.0), l(?:e|t)=(\S+)\)\]", r"0 to \1"),
    (r"Annotated\[((?:list|dict)\[.+\]), Field\(min_length=1.*\)\]", r"\1"),
    (r"dict\[str, BenchMethod\]", "BenchMethod by name"),
    (r"TaskSets", "lists of tasks by name"),
    (r"Sweep", "lists of values by key"),
    (r"dict\[Literal\[(.+)\], str\]", r"text for each of \1"),
    (r"dict\[DataField, .+\]", "column, or list of columns, by field"),
    (r"\bFormName\b", "name of a form"),
    (r"dict\[str, str\]", "text by name"),
    (r"dict\[str, Any\]", "mapping"),
    (r"list\[(\w+)\]", r"list of \1"),
    (r"Tasks|list of TaskName", "list of tasks"),
    (r"ObjectiveName", "an objective"),
    (r"\bReward\b", "name, or weights by name"),
    (r"\bstr\b", "text"),
    (r"\bbool\b", "true or false"),
    (r"\bint\b", "integer"),
    (r"\bfloat\b", "number"),
    (r"Literal\[(.*)\]", r"\1"),
    (r" \| None", ""),
)


def classes() -> dict[str, ast.ClassDef]:
    """Every recipe and section by name, in the order of the files."""
    nodes = [node for name in FILES for node in ast.parse((RUNS / name).read_text(encoding="utf-8")).body]
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}


def fields_of(node: ast.ClassDef) -> Iterator[tuple[str, ast.AnnAssign, str]]:
    """Name, declaration and docstring of each field of a class."""
    for field, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            yield field.target.id, field, " ".join(str(after.value.value).split()) if documented else ""


def keys_of(node: ast.ClassDef) -> Iterator[tuple[str, str, str, str]]:
    """Name, type, default and text of each field of a class."""
    for name, field, text in fields_of(node):
        kind = ast.unparse(field.annotation)
        if kind.startswith("ClassVar"):
            continue
        for pattern, words in TYPES:
            kind = re.sub(pattern, words, kind)
        default = "" if field.value is None else ast.unparse(field.value)
        if "(" in default:  # the section's own defaults, or an empty mapping
            default = ""
        yield name, kind.replace("'", "").replace("|", "or"), default.strip("'"), text


def listed(node: ast.ClassDef, known: dict[str, ast.ClassDef]) -> str:
    """A class's part of the page."""
    lines = [f"## {title(node)}", "", " ".join((ast.get_docstring(node) or "").split()), ""]
    if shared := [link(base) for base in bases_of(node, known)]:
        lines += [f"It has the keys of {' and '.join(shared)} as well.", ""]
    for name, kind, default, text in keys_of(node):
        if name == "kind":
            continue
        kind = re.sub(r"\b[A-Z]\w+\b", lambda match: link(known[match[0]]) if match[0] in known else match[0], kind)
        about = kind + (f"; default `{default}`" if default not in ("", "None") else "")
        lines.append(f"- `{name}` ({about}){': ' + text if text else ''}")
    return "\n".join(lines) + "\n"


def bases_of(node: ast.ClassDef, known: dict[str, ast.ClassDef]) -> list[ast.ClassDef]:
    """The classes whose keys a class has as well. In place of one without keys of its own, its bases."""
    bases = [known[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in known]
    return [each for base in bases for each in ([base] if list(keys_of(base)) else bases_of(base, known))]


def title(node: ast.ClassDef) -> str:
    """Its heading: the kind of a recipe, or the name of a section in words."""
    kinds = [default for name, _, default, _ in keys_of(node) if name == "kind" and not node.name.startswith("BenchM")]
    return f"kind: {kinds[0]}" if kinds else re.sub(r"(?<=[a-z])(?=[A-Z])", " ", node.name).capitalize()


def link(node: ast.ClassDef) -> str:
    """A link to its heading."""
    anchor = re.sub(r"[^\w -]", "", title(node).lower()).replace(" ", "-")
    return f"[{title(node)}](#{anchor})"


def recipe_keys() -> str:
    """Every recipe and every section, with its keys."""
    known = classes()
    return "\n".join(listed(node, known) for node in known.values() if any(True for _ in keys_of(node))).strip()
