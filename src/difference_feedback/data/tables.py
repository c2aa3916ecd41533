"""Rows of Arrow tables and parquet files. Bytes are handed out as `pyarrow.Buffer`, which are not copied."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from difference_feedback.data.cells import RowValues, SourceRow
from difference_feedback.errors import DataError
from difference_feedback.runs.jsonl import RowProblem

BATCH = 32
"""Rows that are taken from a table at a time."""
_MAPPED = 128 * 2**20  # bytes of a file that stay mapped while its rows are read in order
_LARGE_GROUP = 512 * 2**20  # bytes of a row group from which one image takes too long to reach


class TableSource:
    """Rows of a data set on the disk."""

    def __init__(self, dataset: datasets.Dataset, folder: Path) -> None:
        self.dataset, self.folder = dataset.with_format("arrow"), folder
        self.problems: list[RowProblem] = []

    def __iter__(self) -> Iterator[SourceRow]:
        try:
            yield from _numbered(self._tables())
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DataError(f"{self.folder}: the data set is damaged ({_first_line(error)}); make it again") from None

    def reread(self, number: int) -> RowValues:
        return _rows_of(self.dataset[number])[0]

    def _tables(self) -> Iterator[Any]:
        files = [file["filename"] for file in self.dataset.cache_files]
        try:
            whole = self.dataset._indices is None and sum(map(_rows_in, files)) == len(self.dataset)
        except (OSError, ValueError):
            whole = False
        if whole:
            for file in files:
                yield from _batches_of(file)
        else:  # a part of the files
            yield from self.dataset.iter(BATCH)


class ParquetSource:
    """Rows of parquet files, which are read group by group."""

    def __init__(self, files: list[str], folder: Path) -> None:
        self.files, self.folder = files, folder
        self.problems: list[RowProblem] = []
        groups = [
            (file, group, metadata.row_group(group))
            for file, metadata in ((file, _metadata(file)) for file in files)
            for group in range(metadata.num_row_groups)
        ]
        self._groups = [(file, group) for file, group, _ in groups]
        self._ends = list(accumulate(group.num_rows for _, _, group in groups))
        self.has_small_groups = all(group.total_byte_size <= _LARGE_GROUP for _, _, group in groups)

    def __iter__(self) -> Iterator[SourceRow]:
        """The rows in order. Those of a group that is damaged become problems."""
        self.problems.clear()
        number = 0
        for (file, group), end in zip(self._groups, self._ends, strict=True):
            try:
                for row in _numbered(self._batches(file, group), number):
                    yield row
                    number = row.number + 1
            except DataError as error:
                self.problems += [RowProblem(place + 1, None, str(error)) for place in range(number, end)]
            number = end

    def reread(self, number: int) -> RowValues:
        nth = bisect_right(self._ends, number)
        file, group = self._groups[nth]
        place = number - (self._ends[nth - 1] if nth else 0)
        for batch in self._batches(file, group):
            if place < len(batch):
                return _rows_of(batch.slice(place, 1))[0]
            place -= len(batch)
        raise DataError(f"{file} has fewer rows than when it was loaded.")

    def _batches(self, file: str, group: int) -> Iterator[pa.RecordBatch]:
        try:
            with pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20) as table:
                yield from table.iter_batches(BATCH, row_groups=[group], use_threads=False)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DataError(f"{file}: a part of it is damaged ({_first_line(error)}); copy it again") from None


def _metadata(file: str) -> Any:
    try:
        return pq.read_metadata(file)
    except FileNotFoundError:
        raise DataError(f"{file}: there is no such file: check the path") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{file}: no parquet that can be read ({_first_line(error)}); copy it again") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _rows_in(file: str) -> int:
    """The rows of an Arrow file, by the headers of its batches."""
    with pa.memory_map(file) as memory:
        return sum(batch.num_rows for batch in pa.ipc.open_stream(memory))


def _batches_of(file: str) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow file. It is mapped anew now and then, since pages that were read stay in memory."""
    with pa.memory_map(file) as memory:
        schema = pa.ipc.open_stream(memory).schema
        place, end = memory.tell(), memory.size()
    while place < end:
        with pa.memory_map(file) as memory:
            memory.seek(place)
            while place < end and memory.tell() - place < _MAPPED:
                try:
                    message = pa.ipc.read_message(memory)
                except EOFError:
                    return
                yield pa.ipc.read_record_batch(message, schema)
                del message
            place = memory.tell()


def _numbered(tables: Iterator[Any], number: int = 0) -> Iterator[SourceRow]:
    for table in tables:
        for start in range(0, len(table), BATCH):
            for values in _rows_of(table.slice(start, BATCH)):
                yield SourceRow(number, number + 1, values)
                number += 1


def _rows_of(table: Any) -> list[dict[str, Any]]:
    """The rows of a table or of a batch of one."""
    columns = [_values(column) for column in table.columns]
    return [dict(zip(table.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]


def _values(array: Any) -> list[Any]:
    """The values of an Arrow array, with bytes as buffers in place."""
    kind = array.type
    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in _values(chunk)]
    if isinstance(kind, pa.BaseExtensionType):
        return _values(array.storage)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [value.as_buffer() for value in array]
    if pa.types.is_struct(kind):
        fields = [_values(field) for field in array.flatten()]
        names = [kind.field(i).name for i in range(kind.num_fields)]
        return [
            dict(zip(names, (field[i] for field in fields), strict=True)) if valid else None
            for i, valid in enumerate(array.is_valid().to_pylist())
        ]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        values, end, lists = _values(array.flatten()), 0, []
        for length in pc.list_value_length(array).to_pylist():
            lists.append(None if length is None else values[end : end + length])
            end += length or 0
        return lists
    return list(array.to_pylist())
