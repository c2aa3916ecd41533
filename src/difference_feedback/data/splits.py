"""Which files of a folder have the rows of a split, by the names of files and folders."""

import re
from collections.abc import Iterator
from pathlib import Path

from difference_feedback.data.text_files import TEXT_FILES, kind_of
from difference_feedback.errors import ConfigError
from difference_feedback.runs.sections import Data

_SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "valid", "val", "dev"),
    **{name: (name,) for name in ("testmini", "minitest", "minitrain", "minival", "trainval", "eval", "holdout")},
}
_OF_WORD = {word: split for split, words in _SPLITS.items() for word in words}
_SHARD = re.compile(r"-\d{5}-of-\d{5}")
_NO_ROWS = ("dataset_info", "dataset_infos", "config", "package")
"""Stems of files that lie beside data sets and hold no rows."""


def files_of(folder: Path, data: Data) -> list[Path]:
    """The files of `data.split`: shards of parquet, or files of text at the top of the folder.

    A file whose name, or whose folder, names another split is never among them. Files that name no split are taken for
    the split `train` where none names it.

    Raises `ConfigError` where the folder has other splits alone.
    """
    files = list(_below(folder))
    below = [path for path in files if path.suffix.lower() == ".parquet"]
    if data.name is not None:
        below = [path for path in below if data.name in path.relative_to(folder).parts] or below
    texts = [path for path in files if path.parent == folder and _has_text_rows(path)]
    shards = [path for path in below if _is_shard(path, folder)]
    splits: dict[str, None] = {}
    for files in ([path for path in below if path.parent == folder], shards, texts, below):
        of_split = _of_split(files, folder, data.split)
        if of_split:
            return of_split
        splits |= dict.fromkeys(split for path in files for split in sorted(_words(path, folder)))
    if splits or below or texts:
        kinds = (
            f"it has {', '.join(splits)}" if splits else "no name of a file there tells a split: leave data.split out"
        )
        raise ConfigError(f"data.split: {data.path} has no files of the split {data.split!r}; {kinds}.")
    return []


def _below(folder: Path) -> Iterator[Path]:
    """The files below a folder, without hidden ones and caches."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:  # it must not be read
        return
    for path in paths:
        if path.name.startswith(".") or path.name in ("cache", "__pycache__", "node_modules"):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)
        elif path.is_file():
            yield path


def _has_text_rows(path: Path) -> bool:
    stem = path.name.lower().partition(".")[0]
    return kind_of(path) in TEXT_FILES and stem not in _NO_ROWS


def _is_shard(path: Path, folder: Path) -> bool:
    """Whether its place says that it belongs to the data set."""
    return bool(_SHARD.search(path.name) or _words(path, folder)) or "data" in path.relative_to(folder).parts[:-1]


def _words(path: Path, folder: Path) -> set[str]:
    """The splits that a file names, or else the folder next to it that names one."""
    for name in (path.name.partition(".")[0], *reversed(path.relative_to(folder).parts[:-1])):
        words = {_OF_WORD[word] for word in re.findall("[a-z]+", name.lower()) if word in _OF_WORD}
        if words:
            return words
    return set()


def _of_split(files: list[Path], folder: Path, split: str) -> list[Path]:
    wanted = _OF_WORD.get(split.lower(), split)
    named = [path for path in files if wanted in _words(path, folder) or split in _names(path, folder)]
    unnamed = [path for path in files if not _words(path, folder)]
    return named or (unnamed if wanted == "train" or split == folder.name else [])


def _names(path: Path, folder: Path) -> list[str]:
    """What may be the name of a split that is not a usual one."""
    return [_SHARD.split(path.name)[0].partition(".")[0], *path.relative_to(folder).parts[:-1]]
