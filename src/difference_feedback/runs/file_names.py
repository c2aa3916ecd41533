"""Names of files and folders that are made from another file's name.

A dot within a name belongs to the name, as in `qwen2.5-vl`, so `Path.stem` and `Path.with_suffix` do not do.
"""

from pathlib import Path

from difference_feedback.errors import ConfigError

_FORMATS = (".jsonl", ".yaml", ".yml")


def bare_name(path: Path | str) -> str:
    """The file's name without the ending of its format."""
    name = Path(path).name
    ending = next((ending for ending in _FORMATS if name.lower().endswith(ending) and name.lower() != ending), "")
    return name[: len(name) - len(ending)]


def beside(path: Path, kind: str) -> Path:
    """The file `NAME.kind.jsonl` in the folder of `NAME.jsonl`."""
    return path.with_name(f"{bare_name(path)}.{kind}.jsonl")


def repairs_file(path: Path) -> Path:
    """The file itself, or the one with people's repairs in the folder that `annotate` takes.

    Raises `ConfigError` for a folder that holds none, or several.
    """
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.annotated.jsonl"))
    if not files:
        raise ConfigError(f"{path} holds no *.annotated.jsonl: make one by `difference-feedback annotate {path}`.")
    if len(files) > 1:
        raise ConfigError(f"{path} holds several files of repairs: name one of {', '.join(map(str, files))}.")
    return files[0]


def wrong_answers_file(path: Path) -> Path:
    """The file itself, or the one with wrong answers in a folder of `train`, `repair collect`, `repair sft` or people.

    Raises `ConfigError` for a folder that holds none.
    """
    if not path.is_dir():
        return path
    for name in ("items.jsonl", "oracle_repairs.jsonl"):
        if (path / name).is_file():
            return path / name
    try:
        return repairs_file(path)
    except ConfigError:
        raise ConfigError(
            f"{path} holds no wrong answers, as items.jsonl: make them by `train ... keep_wrong_answers=N` or by "
            "`difference-feedback repair collect`."
        ) from None
