"""Each picture goes through the image processor once, however many rows and prompts show it.

The answers of a group share their pictures. TRL gives them to the processor for every answer, twice in a step, and a
repair model does once more for every draft. Within a block of `images_once`, the rows of a call are looked up by what
they show and by the processor's settings. What is missing is computed row by row, and the rows are put together.

Whether a processor's rows can be put together is found out by its first call with given settings: rows of several sizes
and numbers of images are computed in both ways. Where these differ in a single bit, the processor gets all rows of a
call at once, as without the block.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from enum import Enum
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import pad
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature

from difference_feedback.data.bounded_memory import BoundedMemory
from difference_feedback.data.image_files import content_key

_LIMIT = 2**29
"""Bytes of outputs that a block keeps. TRL itself holds an output once for every answer of its group."""
_PROBES = ((64, 48), (150, 50), (40, 120))
"""Width and height in pixels of pictures on which a processor is tried."""


class _Filling(Enum):
    """What a processor's output has for a row without images."""

    NOTHING = 0
    ZEROS = 1
    UNKNOWN = 2
    """The processor takes no such row, or treats it in another way."""


@dataclass(frozen=True)
class _Layout:
    """How a call's output is put together from the outputs of its rows."""

    filling: _Filling
    tensors: tuple[str, ...]
    """The fields that `return_tensors` turns into tensors."""


_Row = list[Image.Image]
_Key = tuple[Any, ...]
_process = BaseImageProcessor.__call__
_memory: BoundedMemory[BatchFeature] | None = None
_blocks = 0
_entering = Lock()
_layouts: dict[_Key, _Layout | None] = {}
"""By processor and settings; None where rows cannot be put together."""


@contextmanager
def images_once() -> Iterator[None]:
    """Within the block, image processors of transformers compute each row of pictures once. Outputs are the same bits.

    Blocks within or beside each other share a memory, which ends with the last of them.
    """
    global _memory, _blocks
    with _entering:
        _blocks += 1
        if _blocks == 1:
            _memory = BoundedMemory(_LIMIT)
            BaseImageProcessor.__call__ = _process_once  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        with _entering:
            _blocks -= 1
            if _blocks == 0:
                BaseImageProcessor.__call__ = _process  # type: ignore[method-assign]
                _memory = None


def _process_once(processor: BaseImageProcessor, *args: Any, **kwargs: Any) -> BatchFeature:
    """Stands for `BaseImageProcessor.__call__`."""
    images = args[0] if len(args) == 1 else kwargs.get("images")
    call, rows = _call_of(processor, kwargs, images), _rows(images)
    if len(args) + ("images" in kwargs) != 1 or call is None or rows is None:
        return _process(processor, *args, **kwargs)
    names: dict[int, _Key] = {id(image): content_key(image) for row in rows for image in row}
    keys = [tuple(names[id(image)] for image in row) for row in rows]
    distinct = dict(zip(keys, rows, strict=True))
    layout = call.layout(next((row for row in rows if row), []))
    if layout is None or not any(rows) or (layout.filling is _Filling.UNKNOWN and () in distinct):
        return _process(processor, *args, **kwargs)
    outputs = {key: call.output(key, row) for key, row in distinct.items() if row}
    return call.joined([outputs.get(key) for key in keys], layout)


@dataclass(frozen=True)
class _Call:
    """A processor and how it is called."""

    processor: BaseImageProcessor
    kwargs: dict[str, Any]
    """Without the images and `return_tensors`."""
    return_tensors: Any
    nested: bool
    """Whether the images are lists, one a row, or a flat list."""
    key: _Key

    def compute(self, rows: Sequence[_Row], return_tensors: Any = None) -> BatchFeature:
        images: Any = rows if self.nested else [image for row in rows for image in row]
        return _process(self.processor, images, return_tensors=return_tensors, **self.kwargs)

    def output(self, key: _Key, row: _Row) -> BatchFeature:
        """The output for a row with this key, from the memory where it is there. It is not to be changed."""
        memory, key = _memory, (self.key, key)
        output = None if memory is None else memory.get(key)
        if output is None:
            output = self.compute([row])
            if memory is not None:
                memory.put(key, output, _size(dict(output)))
        return output

    def joined(self, outputs: Sequence[BatchFeature | None], layout: _Layout) -> BatchFeature:
        """The output of a call from those of its rows."""
        joined = _joined(outputs, layout.filling)
        for name in layout.tensors:
            joined |= BatchFeature({name: joined[name]}, tensor_type=self.return_tensors)
        return BatchFeature(joined)

    def layout(self, row: _Row) -> _Layout | None:
        """How outputs are put together, found out with `row` and with pictures of several sizes."""
        key = (self.key, _plain(self.return_tensors))
        if key not in _layouts:
            a, b, c = (_noise(seed, *size) for seed, size in enumerate(_PROBES))
            rows = [*([row] if row else []), [a], [b, c] if self.nested else [b], [a], [c]]
            alone: list[BatchFeature | None] = [self._tried([row], None) for row in rows]
            layout = None
            if None not in alone:
                layout = self._fitting(self._tried(rows, self.return_tensors), alone, _Filling.UNKNOWN)
            if layout is not None and self.nested:
                together = self._tried([rows[0], [], *rows[1:]], self.return_tensors)
                kinds = (_Filling.NOTHING, _Filling.ZEROS)
                layouts = (self._fitting(together, [alone[0], None, *alone[1:]], kind) for kind in kinds)
                layout = next(filter(None, layouts), layout)
            _layouts[key] = layout
        return _layouts[key]

    def _tried(self, rows: Sequence[_Row], return_tensors: Any) -> BatchFeature | None:
        try:
            return self.compute(rows, return_tensors)
        except Exception:  # processors raise what they like for what they do not take
            return None

    def _fitting(
        self, together: BatchFeature | None, alone: Sequence[BatchFeature | None], filling: _Filling
    ) -> _Layout | None:
        """The layout by which the outputs of single rows become that of the call; None if they cannot."""
        if together is None:
            return None
        try:
            joined = _joined(alone, filling)
            layout = _Layout(filling, tuple(name for name in joined if type(joined[name]) is not type(together[name])))
            return layout if _same(dict(together), dict(self.joined(alone, layout))) else None
        except (KeyError, ValueError, TypeError, RuntimeError):  # fields or shapes that do not fit together
            return None


def _call_of(processor: BaseImageProcessor, kwargs: Mapping[str, Any], images: Any) -> _Call | None:
    """None where settings are no plain values, so that nothing tells whether they are the same again."""
    nested = isinstance(images, list | tuple) and len(images) > 0 and isinstance(images[0], list | tuple)
    settings = {name: value for name, value in kwargs.items() if name not in ("images", "return_tensors")}
    try:
        key = type(processor), _plain(vars(processor)), _plain(settings), nested
    except TypeError:
        return None
    return _Call(processor, settings, kwargs.get("return_tensors"), nested, key)


def _plain(value: Any) -> Any:
    """A value that can be a key. Raises `TypeError` for what is not made of plain values."""
    if value is None or isinstance(value, str | bytes | bool | int | float | Enum):
        return type(value), value
    if isinstance(value, Mapping):
        return type(value), tuple(sorted((str(name), _plain(item)) for name, item in value.items()))
    if isinstance(value, list | tuple):
        return type(value), tuple(map(_plain, value))
    if isinstance(value, set | frozenset):
        return type(value), frozenset(map(_plain, value))
    if is_dataclass(value):
        return type(value), _plain(vars(value))
    raise TypeError(f"a {type(value).__name__} is no plain value")


def _rows(images: Any) -> list[_Row] | None:
    """The rows of images; an image of a flat list is a row. None for anything but pictures whose bytes say all."""
    if not isinstance(images, list | tuple) or not len(images):
        return None
    rows = [list(row) if isinstance(row, list | tuple) else row for row in images]
    if all(isinstance(row, Image.Image) for row in rows):
        rows = [[image] for image in rows]
    plain = all(isinstance(row, list) and all(map(_says_all, row)) for row in rows)
    return rows if plain else None


def _says_all(image: Any) -> bool:
    return isinstance(image, Image.Image) and image.mode in ("RGB", "L") and "transparency" not in image.info


def _joined(outputs: Sequence[BatchFeature | None], filling: _Filling) -> dict[str, Any]:
    """The outputs of rows one after the other. None stands for a row without images."""
    first = next(dict(output) for output in outputs if output is not None)
    empty = {name: [_zeros(value)] if filling is _Filling.ZEROS else [] for name, value in first.items()}
    joined = {}
    for name in first:
        values = [empty[name] if output is None else [output[name]] for output in outputs]
        joined[name] = _concatenated([value for of_row in values for value in of_row])
    return joined


def _zeros(value: Any) -> Any:
    """What a row without images has in the place of this value of a row."""
    if isinstance(value, torch.Tensor):
        return torch.zeros_like(value[:1])
    return np.zeros_like(value[:1]) if isinstance(value, np.ndarray) else [[]]


def _concatenated(values: list[Any]) -> Any:
    """Values one after the other. Those of smaller rows get zeros at the end of their further dimensions."""
    if isinstance(values[0], np.ndarray):
        return _concatenated([torch.from_numpy(value) for value in values]).numpy()
    if isinstance(values[0], torch.Tensor):
        shape = _largest([value[0] for value in values if len(value)] or values)
        return torch.cat([_padded(value, [len(value), *shape]) for value in values])
    items = [item for value in values for item in value]
    if all(isinstance(item, torch.Tensor) for item in items):
        shape = _largest(items)
        return [_padded(item, shape).clone() for item in items]
    return items


def _largest(tensors: Sequence[torch.Tensor]) -> list[int]:
    return [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]


def _padded(tensor: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    gaps = [wanted - size for wanted, size in zip(shape, tensor.shape, strict=True)]
    return pad(tensor, [side for gap in reversed(gaps) for side in (0, gap)]) if any(gaps) else tensor


def _same(one: Any, other: Any) -> bool:
    """Whether two outputs are the same bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _size(value: Any) -> int:
    """Bytes, as far as they count."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return int(value.nbytes)
    if isinstance(value, Mapping):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list | tuple) else 64


def _noise(seed: int, width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
