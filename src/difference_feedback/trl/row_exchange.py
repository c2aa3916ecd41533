"""Rows that move to another rank, with all that a loss reads of them, pixels included. Only these rows travel.

Each sender packs its rows for one rank into one buffer. What a buffer holds, a few numbers a row, goes to all ranks;
the buffer itself goes from rank to rank. Rows of one prompt that stand together share its tokens and its pixels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import gather_object
from torch.nn.functional import pad
from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

from difference_feedback.trl.image_rows import PER_TOKEN_FIELDS, select_rows

_FILL = {"importance_sampling_ratio": 1, "tool_mask": 1}


@dataclass(frozen=True)
class Column:
    """One field of the rows in a buffer: its different values, and which of them each row has."""

    name: str
    dtype: torch.dtype | None
    """None: the values are numbers, in `values`."""
    shapes: list[tuple[int, ...]]
    index: list[int]
    values: list[int]
    is_list: bool

    @property
    def sizes(self) -> list[int]:
        """Bytes of each different value."""
        assert self.dtype is not None
        return [math.prod(shape) * self.dtype.itemsize for shape in self.shapes]


def exchange(batch: dict[str, Any], sends: Mapping[int, Sequence[int]], sources: Sequence[int]) -> list[dict[str, Any]]:
    """Send rows of `batch` to other ranks, `sends[rank]`, and return what the ranks in `sources` send to this one.

    All ranks call it, also those that neither send nor receive.
    """
    device, here = batch["prompt_ids"].device, PartialState().process_index
    parcels = {target: pack_rows(select_rows(batch, rows)) for target, rows in sends.items()}
    columns = gather_object([{target: parcel[0] for target, parcel in parcels.items()}])
    buffers = {
        source: torch.empty(
            sum(sum(column.sizes) for column in columns[source][here] if column.dtype), dtype=torch.uint8, device=device
        )
        for source in sources
    }
    moves = [dist.P2POp(dist.isend, buffer, target) for target, (_, buffer) in parcels.items()]
    moves += [dist.P2POp(dist.irecv, buffer, source) for source, buffer in buffers.items()]
    for work in dist.batch_isend_irecv(moves) if moves else ():
        work.wait()
    return [unpack_rows(columns[source][here], buffers[source]) for source in sources]


def pack_rows(batch: dict[str, Any]) -> tuple[list[Column], torch.Tensor]:
    """A batch's rows as one buffer of bytes, `(N,)`, and what it holds. What belongs to the batch as a whole stays."""
    columns: list[Column] = []
    parts: list[torch.Tensor] = []
    for name, field in split_pixel_values_by_grid(batch).items():
        if isinstance(field, list) and field and not isinstance(field[0], torch.Tensor):
            columns.append(Column(name, None, [], [], field, True))
        elif isinstance(field, list) or (isinstance(field, torch.Tensor) and field.ndim):
            index, values = _different(list(field))
            shapes = [tuple(value.shape) for value in values]
            columns.append(Column(name, values[0].dtype, shapes, index, [], isinstance(field, list)))
            parts += [value.contiguous().view(-1).view(torch.uint8) for value in values]
    return columns, torch.cat(parts)


def _different(rows: list[torch.Tensor]) -> tuple[list[int], list[torch.Tensor]]:
    """The place of each row among the different ones, and these; rows that are equal stand together."""
    index: list[int] = []
    values: list[torch.Tensor] = []
    for row in rows:
        if not values or values[-1].shape != row.shape or not torch.equal(values[-1], row):
            values.append(row)
        index.append(len(values) - 1)
    return index, values


def unpack_rows(columns: Sequence[Column], buffer: torch.Tensor) -> dict[str, Any]:
    """The rows that `pack_rows` packed."""
    batch: dict[str, Any] = {}
    place = 0
    for column in columns:
        if column.dtype is None:
            batch[column.name] = column.values
            continue
        values = []
        for shape, size in zip(column.shapes, column.sizes, strict=True):
            values.append(buffer[place : place + size].clone().view(column.dtype).view(shape))
            place += size
        rows = [values[i] for i in column.index]
        batch[column.name] = rows if column.is_list else torch.stack(rows)
    return unsplit_pixel_values_by_grid(batch)


def join_rows(batches: Sequence[dict[str, Any]], pad_id: int) -> dict[str, Any]:
    """Batches of several ranks one below the other: prompts padded on the left, completions on the right.

    Fields that a batch lacks, as those of images where none of its rows has any, are empty there. What belongs to a
    batch as a whole is the first one's.
    """
    split: list[dict[str, Any]] = [split_pixel_values_by_grid(batch) for batch in batches]
    fills = _FILL | {"prompt_ids": pad_id, "completion_ids": pad_id}
    widths = [[batch[f"{side}_ids"].size(1) for batch in batches] for side in ("prompt", "completion")]
    joined: dict[str, Any] = {}
    for name in dict.fromkeys(name for batch in split for name in batch):
        sample = next(batch[name] for batch in split if batch.get(name) is not None)
        if isinstance(sample, torch.Tensor) and not sample.ndim:
            joined[name] = sample
            continue
        fields: list[Any] = []
        for i, batch in enumerate(split):
            field: Any = batch.get(name)
            rows = len(batch["prompt_ids"])
            if field is None and isinstance(sample, list):
                field = [sample[0][:0] if isinstance(sample[0], torch.Tensor) else 0] * rows
            elif field is None:
                width = widths[0][i] + widths[1][i] if name in PER_TOKEN_FIELDS else sample.size(-1)
                field = sample.new_zeros((rows, *sample.shape[1:-1], width))
            if name in PER_TOKEN_FIELDS or name in ("prompt_ids", "prompt_mask"):
                field = pad(field, (max(widths[0]) - widths[0][i], 0), value=fills.get(name, 0))
            fields.append(field)
        if not isinstance(sample, list):
            joined[name] = torch.cat(_same_shape(fields, fills.get(name, 0)))
        else:
            flat = [row for field in fields for row in field]
            joined[name] = _same_shape(flat) if isinstance(flat[0], torch.Tensor) else flat
    return unsplit_pixel_values_by_grid(joined)


def _same_shape(parts: list[torch.Tensor], fill: int = 0) -> list[torch.Tensor]:
    """Parts padded behind, so that all dimensions but the first agree: completions, and images as processors do it."""
    shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    padded = []
    for part in parts:
        missing = [size - have for size, have in zip(shape, part.shape[1:], strict=True)]
        padded.append(
            pad(part, [n for size in reversed(missing) for n in (0, size)], value=fill) if any(missing) else part
        )
    return padded
