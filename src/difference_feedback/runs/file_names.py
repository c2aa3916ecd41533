"""Names of files and folders that are made from another file's name.

A dot within a name belongs to the name, as in `qwen2.5-vl`, so `Path.stem` and `Path.with_suffix` do not do.
"""

from pathlib import Path

_FORMATS = (".jsonl", ".yaml", ".yml")


def bare_name(path: Path | str) -> str:
    """The file's name without the ending of its format."""
    name = Path(path).name
    ending = next((ending for ending in _FORMATS if name.lower().endswith(ending) and name.lower() != ending), "")
    return name[: len(name) - len(ending)]


def beside(path: Path, kind: str) -> Path:
    """The file `NAME.kind.jsonl` in the folder of `NAME.jsonl`."""
    return path.with_name(f"{bare_name(path)}.{kind}.jsonl")
