"""Tables of the fields of files in docs/reference/file_formats.md, from the classes that read or write them."""

import ast
import re
from pathlib import Path

from recipe_keys import TYPES, fields_of

PACKAGE = Path(__file__).parents[1] / "src" / "difference_feedback"
SOURCES = ("report/data.py", "method/cost.py", "repair/quality.py", "judges/audit_log.py")
SHOWN = (
    *("Summary", "MethodResult", "CostTerms", "RepairQuality", "FactorFigures", "AuditStatistics", "CurvePoint"),
    *("Example", "ShownAnswer", "BenchmarkScore"),
)
WORDS = (
    (r"dict\[str, Accuracy\]", "0 to 1 by task"),
    (r"dict\[Clock, CostTerms\]", "[CostTerms](#costterms) by clock"),
    (r"RepairStage", "[RepairQuality](#repairquality)"),
    (r"\b(FactorFigures|AuditStatistics|ShownAnswer)\b", lambda match: f"[{match[1]}](#{match[1].lower()})"),
    (r"Interval|tuple\[float, float\]", "two numbers"),
    (r"Accuracy", "0 to 1"),
    (r"\bStep\b", "integer from 0"),
    (r"ImageURL", "data URL"),
    (r"list\[data URL\]", "list of data URLs"),
    (r"list\[str\]", "list of texts"),
    (r"list\[bool\]", "list of booleans"),
    (r"list\[float\]", "list of numbers"),
    (r"dict\[str, int\]", "integer by name"),
    (r"dict\[str, float\]", "number by name"),
    (r"MaskQuality", "precision, recall, f1"),
    *TYPES,
)
NOT_IN_FILES = re.compile(r"^Not in the file")


def field_tables() -> dict[str, str]:
    """`fields of CLASS` -> its table."""
    nodes = [
        node
        for source in SOURCES
        for node in ast.parse((PACKAGE / source).read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    ]
    return {f"fields of {node.name}": _table(node) for node in nodes if node.name in SHOWN}


def _table(node: ast.ClassDef) -> str:
    lines = ["| field | type | needed | meaning |", "|---|---|---|---|"]
    for name, field, text in fields_of(node):
        if NOT_IN_FILES.match(text):
            continue
        is_needed = field.value is None or "AliasChoices" in ast.unparse(field.value)
        text = re.sub(r"^Needed[^.]*\. ?", "", text).replace("None:", "Null:")
        lines.append(f"| `{name}` | {_type(field)} | {'yes' if is_needed else ''} | {text} |")
    return "\n".join(lines)


def _type(field: ast.AnnAssign) -> str:
    kind = ast.unparse(field.annotation)
    may_be_null = " | None" in kind
    for pattern, words in WORDS:
        kind = re.sub(pattern, words, kind)
    return kind.replace("|", "or") + (", or null" if may_be_null else "")
