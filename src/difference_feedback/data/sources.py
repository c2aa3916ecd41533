"""One reader for every file of rows: JSON Lines, JSON, CSV, TSV, parquet, a saved data set, a hub name.

A source gives its rows one after the other and keeps none of them. `reread` gives one row again, from the disk, so that
an image inside a row is read when it is needed.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import datasets

from difference_feedback.data.cells import RowValues, SourceRow
from difference_feedback.data.splits import files_of
from difference_feedback.data.tables import BATCH, ParquetSource, TableSource
from difference_feedback.data.text_files import TEXT_FILES, TextSource, kind_of
from difference_feedback.errors import ConfigError
from difference_feedback.runs.jsonl import RowProblem
from difference_feedback.runs.sections import Data


class RowSource(Protocol):
    """Rows from outside. Lines that are no rows go to `problems` while the rows are read."""

    folder: Path
    """Paths of images are relative to it."""
    problems: list[RowProblem]

    def __iter__(self) -> Iterator[SourceRow]: ...
    def reread(self, number: int) -> RowValues:
        """The row of this number once more."""
        ...


def open_source(data: Data) -> RowSource:
    """The source that `data.path` names.

    Raises `ConfigError` for a path that holds no data, and `DataError` for a file that cannot be read.
    """
    path = Path(data.path).expanduser()
    if path.is_dir():
        return _folder(path, data)
    if kind_of(path) in TEXT_FILES:
        return TextSource(path)
    if path.suffix.lower() == ".parquet":
        return _parquet([path], path.parent, data)
    if path.is_file():
        return _other_file(path, data)
    return TableSource(_loaded(data, lambda: datasets.load_dataset(data.path, data.name, split=data.split)), Path())


def _other_file(path: Path, data: Data) -> RowSource:
    """A file of another kind. Raises `ConfigError` for those that are not read."""
    suffix = path.suffix.lower()
    if suffix == ".arrow":
        return TableSource(_loaded(data, lambda: datasets.Dataset.from_file(str(path))), path.parent)
    raise ConfigError(
        f"data.path {path}: a file {f'of the kind {suffix}' if suffix else 'without a suffix'} is not read: "
        f"{_REMEDIES.get(suffix, _SAVE)}."
    )


_SAVE = f"save its rows as one of {', '.join(TEXT_FILES)} (with or without .gz) or .parquet"
_UNPACK = "unpack it, and name the file of rows or the folder"
_SHEET = "save the sheet as CSV in UTF-8"
_REMEDIES = {
    **dict.fromkeys((".zip", ".tar", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"), _UNPACK),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), _SHEET),
}


def _folder(path: Path, data: Data) -> RowSource:
    """A saved data set, shards of parquet, or a folder with one file of rows beside its images."""
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return TableSource(_loaded(data, lambda: datasets.load_from_disk(str(path))), path)
    files = files_of(path, data)
    if not files:
        return TableSource(_loaded(data, lambda: datasets.load_dataset(str(path), data.name, split=data.split)), path)
    if files[0].suffix.lower() == ".parquet":
        return _parquet(files, path, data)
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:5])
        raise ConfigError(f"data.path {path} holds {len(files)} files of rows ({names}): name one of them.")
    return TextSource(files[0])


def _parquet(files: list[Path], folder: Path, data: Data) -> RowSource:
    names = [str(file) for file in files]
    source = ParquetSource(names, folder)
    if source.has_small_groups:
        return source
    # An image in a large group would take long to reach. `datasets` copies the rows into its cache, once.
    loaded = _loaded(data, lambda: datasets.load_dataset("parquet", data_files=names, split="train", batch_size=BATCH))
    return TableSource(loaded, folder)


def _loaded(data: Data, load: Callable[[], Any]) -> datasets.Dataset:
    try:
        loaded = load()
    except (OSError, ValueError, KeyError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"data.path {data.path}: cannot be loaded ({reason}): give a file of rows (JSONL, JSON, CSV, TSV, "
            "parquet), a saved data set, or a hub name."
        ) from error
    if isinstance(loaded, datasets.DatasetDict):
        if data.split not in loaded:
            raise ConfigError(f"data.split: {data.path} has no {data.split!r}, it has {', '.join(loaded)}.")
        loaded = loaded[data.split]
    return loaded
