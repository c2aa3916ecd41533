"""Images that are opened when they are needed: from files, from within rows, or as frames of videos."""

import base64
import binascii
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, overload

import pyarrow as pa
from PIL import Image

from difference_feedback.data.bounded_memory import BoundedMemory
from difference_feedback.data.cells import Place, value_at
from difference_feedback.data.image_files import MeasuredImage, copied, measure_image, open_image
from difference_feedback.data.named_files import named_file
from difference_feedback.data.sources import RowSource
from difference_feedback.data.video import count_frames, frame_of, spread
from difference_feedback.errors import DataError, FieldError

Size = tuple[int, int]
"""Height and width, in pixels."""
_BASE64_STARTS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR")  # PNG, JPEG, GIF, WebP
_PATHS = ("path", "image", "image_url", "video", "url")
STILL = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif"),
    *(".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".svg"),
)
"""Ends of names of images, also of those that cannot be read: they are listed when they are opened."""
PICTURES = (*STILL, ".gif", ".apng")
"""Ends of names of images and of animations, which as images are their first frame."""
_REMEMBERED = 2**27
"""Bytes of opened images that an `Opener` keeps: some forty of a megapixel."""
_BASE64 = re.compile(r"[A-Za-z0-9+/=_\-\s]+")


class Picture(TypedDict):
    """Where an image is, and its size once it is opened. A data set keeps this in place of pixels."""

    path: str
    """The file; empty for an image within its row."""
    row: int
    """Index of the row in its source."""
    line: int
    place: str
    """The place within the row, as JSON."""
    frame: int
    """The frame of a video; -1 for an image."""
    height: int
    width: int


@dataclass(frozen=True)
class Opener:
    """Finds images when rows are loaded, and opens them when they are needed."""

    source: RowSource | None
    """The rows, where they may hold images themselves."""
    name: str
    """What messages call the source."""
    root: Path
    """Paths are relative to it, and files must lie in it."""
    min_side: int
    max_pixels: int
    others: tuple[Path, ...] = ()
    """Further folders, where files may lie as well."""
    remedy: str = "copy it into that folder"
    """For a file that lies elsewhere; see `named_file`."""
    memory: BoundedMemory[Image.Image] = field(
        default_factory=partial(BoundedMemory, _REMEMBERED), compare=False, repr=False
    )
    """Opened images: the rows of a group, the update's micro-batches, and repair and judge show the same ones."""

    def find(self, value: Any, place: Place, row: int, line: int) -> tuple[Picture, MeasuredImage]:
        """An image that a row holds or names, by its header. Raises `FieldError`."""
        file = self._file(value, place, "image")
        try:
            measured = measure_image(file[0], min_side=self.min_side, max_pixels=self.max_pixels)
        except DataError as error:
            raise FieldError("image", str(error)) from None
        return _picture(file, row, line, -1, measured), measured

    def find_frames(self, value: Any, place: Place, row: int, line: int, wanted: int) -> list[Picture]:
        """Frames of a video, evenly spread. A row holds or names its file, its frames, or a folder of its frames.

        The first one and the last one are decoded. Raises `FieldError`.
        """
        if isinstance(value, list) and len(value) > 1:  # the files of its frames
            return [self.find(value[i], (*place, i), row, line)[0] for i in spread(len(value), wanted)]
        file = self._file(value, place, "video")
        try:
            if isinstance(file[0], Path) and file[0].is_dir():
                images = _images_in(file[0])
                return [self.find(str(images[i]), place, row, line)[0] for i in spread(len(images), wanted)]
            frames = spread(count_frames(file[0]), wanted)
            first = measure_image(
                frame_of(file[0], frames[0]).image, min_side=self.min_side, max_pixels=self.max_pixels
            )
            if not frame_of(file[0], frames[-1]).is_exact:
                raise DataError(f"its frame {frames[-1] + 1} cannot be decoded: the file is damaged; copy it again.")
        except DataError as error:
            raise FieldError("video", str(error)) from None
        return [_picture(file, row, line, frame, first) for frame in frames]

    def open(self, picture: Picture) -> Image.Image:
        """The image, converted and scaled. What is missing of a damaged one stays grey, and a warning names the row.

        An image of which nothing can be decoded is grey, and a damaged frame of a video is the last good one before it.

        Raises `DataError`, with the row, where the file is gone.
        """
        key = _state_of(picture)
        image = None if key is None else self.memory.get(key)
        if image is not None:
            return copied(image)  # its user may draw on it
        image, damage = _opened(lambda: self.file_of(picture), picture, self.name, self.min_side, self.max_pixels)
        if damage:
            warnings.warn(damage, RuntimeWarning, stacklevel=2)
        elif key is not None:
            self.memory.put(key, copied(image), 6 * image.width * image.height)  # a JPEG's bytes included
        return image

    def file_of(self, picture: Picture) -> Path | bytes | pa.Buffer:
        """The image's file, or its bytes, which are read from its row again."""
        if picture["path"]:
            return Path(picture["path"])
        place = tuple(json.loads(picture["place"]))
        assert self.source is not None
        return _bytes_of(value_at(self.source.reread(picture["row"]), place), "image")

    def _file(self, value: Any, place: Place, kind: str) -> "_File":
        """The file that a cell names, or the bytes that it holds."""
        while not isinstance(value, str | bytes | pa.Buffer):
            key: str | int | None = None
            if isinstance(value, Mapping):
                key = next((key for key in ("bytes", *_PATHS) if _holds_something(value.get(key))), None)
            elif isinstance(value, list) and len(value) == 1:
                key = 0
            if key is None:
                raise FieldError(kind, f"the type is {type(value).__name__}: give the path of a file.")
            value, place = value[key], (*place, key)
        if isinstance(value, str) and value.strip() and not _holds_bytes(value):
            return self._path(value.strip(), kind), ()
        return _bytes_of(value, kind), place

    def _path(self, text: str, kind: str) -> Path:
        try:
            return named_file(text, (self.root, *self.others), remedy=self.remedy, takes_folders=kind == "video")
        except DataError as error:
            raise FieldError(kind, str(error)) from None


_File = tuple[Any, Place]
"""A path with no place, or bytes with their place in the row."""


def _state_of(picture: Picture) -> tuple[Any, ...] | None:
    """What an opened image depends on: a file that is replaced gives another one. None where the file is gone.

    An image within a row has no file of its own. Where its row stands holds for the rows' file as it was loaded.
    """
    if not picture["path"]:
        return tuple(picture.values())
    try:
        state = os.stat(picture["path"])
    except (OSError, ValueError):
        return None
    content = picture["path"], state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino
    return *content, picture["frame"], picture["height"], picture["width"]


def open_picture(read: Callable[[], Any], picture: Picture, source: str, min_side: int, max_pixels: int) -> Image.Image:
    """The image whose file `read` gives; see `Opener.open`. `source` is what messages call the data set."""
    image, damage = _opened(read, picture, source, min_side, max_pixels)
    if damage:
        warnings.warn(damage, RuntimeWarning, stacklevel=2)
    return image


def _opened(
    read: Callable[[], Any], picture: Picture, source: str, min_side: int, max_pixels: int
) -> tuple[Image.Image, str]:
    """The image, and what is wrong with it, if anything."""
    name = f'{source}, line {picture["line"]}, "{"image" if picture["frame"] < 0 else "video"}"'
    size = picture["width"], picture["height"]
    try:
        file = read()
        if isinstance(file, Path) and not os.access(file, os.R_OK):
            raise DataError(f"there is no file {file} that can be read.")
    except (DataError, OSError, ValueError) as error:
        raise DataError(f"{name}: {error} It was there when the row was loaded.") from None
    damage = ""
    try:
        if picture["frame"] >= 0:
            file, is_exact = frame_of(file, picture["frame"])
            damage = "" if is_exact else f"the frame {picture['frame'] + 1} is damaged; one before it takes its place"
        opened = open_image(file, min_side=min_side, max_pixels=max_pixels, tolerant=True)
        image = opened.image
        damage = damage or "".join(f"{note}; what is missing stays grey" for note in opened.notes if "damaged" in note)
    except DataError as error:
        image, damage = Image.new("RGB", size, "grey"), f"{error} It is shown as a grey image"
    if image.size != size:  # a video may change its size
        image = image.resize(size)
    return image, damage and f"{name}: {damage}."


def _holds_something(value: Any) -> bool:
    return value is not None and not (isinstance(value, str | bytes | pa.Buffer | Mapping | list) and len(value) == 0)


def _images_in(folder: Path) -> list[Path]:
    """The images of a folder in the order of the numbers in their names. Raises `DataError` where there are none."""
    images = [path for path in folder.iterdir() if path.suffix.lower() in STILL and not path.name.startswith(".")]
    if not images:
        raise DataError(f"the folder {folder} has no images of frames: give the path of a film.")
    return sorted(images, key=lambda path: [part.zfill(255) for part in re.findall("[0-9]+|[^0-9]+", path.name)])


class LazyImages(Sequence[Image.Image]):
    """A row's images. Each is opened whenever it is taken; `sizes` has their heights and widths at once."""

    def __init__(self, pictures: Sequence[Picture], opener: Opener) -> None:
        self.pictures, self.opener = pictures, opener

    @property
    def sizes(self) -> list[Size]:
        return [(picture["height"], picture["width"]) for picture in self.pictures]

    def __len__(self) -> int:
        return len(self.pictures)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> "LazyImages": ...
    def __getitem__(self, index: int | slice) -> "Image.Image | LazyImages":
        if isinstance(index, slice):
            return LazyImages(self.pictures[index], self.opener)
        return self.opener.open(self.pictures[index])

    def __iter__(self) -> Iterator[Image.Image]:
        return map(self.opener.open, self.pictures)

    def __repr__(self) -> str:
        return f"LazyImages({', '.join(f'{width} x {height}' for height, width in self.sizes)})"


def _picture(file: _File, row: int, line: int, frame: int, measured: MeasuredImage) -> Picture:
    path = str(file[0]) if isinstance(file[0], Path) else ""
    place = "" if path else json.dumps(list(file[1]))
    height, width = measured.height, measured.width
    return Picture(path=path, row=row, line=line, place=place, frame=frame, height=height, width=width)


def _holds_bytes(text: str) -> bool:
    """Whether a text is a data URL or base64, and not a path."""
    text = text.lstrip()
    if text.startswith(("data:", *_BASE64_STARTS)):
        return True
    return len(text) > 255 and "." not in text[:255] and _BASE64.fullmatch(text) is not None


def _bytes_of(value: Any, kind: str) -> bytes | pa.Buffer:
    """The bytes of a cell: as they are, as base64, or as a data URL. Raises `FieldError`."""
    if isinstance(value, bytes | pa.Buffer):
        return value
    if not isinstance(value, str) or not value.strip():
        raise FieldError(kind, f"the type is {type(value).__name__}: give the path of a file.")
    text = value.strip()
    if text.startswith("data:"):
        header, comma, text = text.partition(",")
        if not comma or not header.endswith(";base64"):
            raise FieldError(kind, f"{header[:60]!r} is no data URL in base64: give data:image/png;base64,...")
    try:
        text = "".join(text.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise FieldError(kind, f"a text of {len(text)} characters is no base64 ({error}): give a path.") from None
