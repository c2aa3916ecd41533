"""Open images from outside, of any mode and size, as 8-bit RGB within the limits; refuse the others with a reason.

`measure_image` reads a file's header and looks for the mark at its end. It says what `open_image` will give without
decoding a pixel. Both go by the same functions, so that sizes are the same.
"""

import base64
import hashlib
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from PIL import Image, ImageFile, UnidentifiedImageError

from difference_feedback.data.image_limits import FORMATS, REFUSED_PIXELS, check_memory, open_header
from difference_feedback.data.memory_files import file_in_memory
from difference_feedback.errors import ConfigError, DataError

REFUSED_SIDE = 4
"""An image with a shorter side shows nothing."""
REFUSED_RATIO = 200
"""Qwen2.5-VL's processor rejects an image whose longer side exceeds this many times the shorter one."""
_BAND = 2**22  # pixels of a large image that are converted at a time
_TAIL = 65536  # bytes at the end of a file, among which its end mark is looked for
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_JPEG = "difference_feedback_jpeg"  # the attribute of an image that holds its file
_tolerance = Lock()
ImageSource: TypeAlias = "Path | bytes | pa.Buffer | Image.Image"
"""A file, the bytes of one, or an opened image. Of a mapped `Buffer` only the pages that are needed are read."""


@dataclass(frozen=True)
class OpenedImage:
    """An RGB image. `notes` list the changes that were made to it; they are empty if there were none."""

    image: Image.Image
    notes: tuple[str, ...]


@dataclass(frozen=True)
class MeasuredImage:
    """The size in pixels that `open_image` will give, and the changes that it will make."""

    height: int
    width: int
    notes: tuple[str, ...]


def jpeg_of(image: Image.Image) -> "Path | bytes | None":
    """The JPEG file that `open_image` has opened and not changed. Whoever has the image may have drawn on it since."""
    file: Path | bytes | None = vars(image).get(_JPEG)
    return file


def copied(image: Image.Image) -> Image.Image:
    """A copy of an opened image, its file included."""
    copy = image.copy()
    if _JPEG in vars(image):
        vars(copy)[_JPEG] = vars(image)[_JPEG]
    return copy


def content_key(image: Image.Image) -> tuple[str, tuple[int, int], bytes]:
    """Mode, size and a digest of the pixels: equal for images that show the same, and for no others."""
    return image.mode, image.size, hashlib.sha256(image.tobytes()).digest()


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    """The bytes of an image file as a data URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def measure_image(source: ImageSource, *, min_side: int = 28, max_pixels: int = 1_003_520) -> MeasuredImage:
    """Check an image by its header and its end. Raises `DataError` as `open_image`.

    A JPEG, PNG or WebP file is whole if its end mark is there. A file of another kind, or without the mark, is decoded
    once. Damage within a whole file shows when it is opened.
    """
    with _header(source) as (image, file):
        plan = _plan(image, min_side, max_pixels)
        if file is not None and not _has_end(image, file):
            _load(image)
        if image.mode == "I":
            _check_range(image)
    return plan.measured


def open_image(
    source: ImageSource, *, min_side: int = 28, max_pixels: int = 1_003_520, tolerant: bool = False
) -> OpenedImage:
    """Open an image from a file, from a file's bytes, or from an opened image.

    Images above `max_pixels` are scaled down; images whose shorter side is below `min_side` pixels are scaled up.
    Transparent areas become white. CMYK and 16-bit channels become 8-bit RGB. An animation gives its first frame. A
    camera's rotation is applied. With `tolerant`, the missing part of a damaged image stays grey or black, and a note
    says so.

    Raises `DataError` with the remedy when the source is not an image, is damaged, or has an unusable size.
    """
    with _header(source) as (image, _):
        plan = _plan(image, min_side, max_pixels)
        measured, notes = plan.measured, list(plan.measured.notes)
        notes += _load(image, tolerant)
        is_jpeg = image.format == "JPEG" and image.mode in ("RGB", "L")
        image = _rgb(image)
    if plan.turn in _TURNS:
        image = image.transpose(_TURNS[plan.turn])
    size = measured.width, measured.height
    if image.size != size:
        smaller = size[0] * size[1] < image.width * image.height
        image = image.resize(size, Image.Resampling.LANCZOS if smaller else Image.Resampling.BICUBIC)
    if type(image) is not Image.Image or image is source:  # still the file's own, or the caller's
        image = image.convert("RGB")
    image.info = {}  # a recorded rotation would be applied again
    if is_jpeg and not notes and not isinstance(source, Image.Image):
        if isinstance(source, Path):
            vars(image)[_JPEG] = source
        elif len(source) <= 3 * image.width * image.height:
            vars(image)[_JPEG] = bytes(source)  # a part of a buffer would keep the whole one in memory
    return OpenedImage(image, tuple(notes))


@dataclass(frozen=True)
class _Plan:
    measured: MeasuredImage
    turn: int
    """The rotation by the number that cameras record; 1 means upright."""


def _plan(image: Image.Image, min_side: int, max_pixels: int) -> _Plan:
    """What becomes of an image, by its header. A JPEG that shrinks is set to be decoded at a smaller size.

    Raises `DataError` for a size or a mode that cannot be used.
    """
    width, height = image.size
    if width * height > REFUSED_PIXELS:
        raise DataError(f"{width} x {height} pixels are more than {REFUSED_PIXELS:,}: scale the image down first.")
    if min(width, height) < REFUSED_SIDE:
        raise DataError(f"{width} x {height} pixels are too few to show anything: give the original image.")
    if max(width, height) > REFUSED_RATIO * min(width, height):
        raise DataError(
            f"{width} x {height} pixels: one side is more than {REFUSED_RATIO} times the other: crop the image."
        )
    notes = []
    if (frames := getattr(image, "n_frames", 1)) > 1:
        notes.append(f"first frame of {frames}")
    turn = _orientation(image)
    if turn in _TURNS:
        notes.append("rotated as its camera recorded")
    notes += _changes_of_mode(image)
    shrink = (max_pixels / (width * height)) ** 0.5
    factor = min_side / min(width, height) if min(width, height) < min_side else min(1.0, shrink)
    if shrink < 1:
        notes.append(f"scaled down from {width} x {height}")
    elif factor > 1:
        notes.append(f"scaled up from {width} x {height}")
    whole = int if factor < 1 else round  # rounding up could exceed the limit
    size = max(1, whole(height * factor)), max(1, whole(width * factor))
    measured = MeasuredImage(size[turn >= 5], size[turn < 5], tuple(notes))
    if shrink < 1:
        image.draft("RGB", (max(1, int(width * shrink)), max(1, int(height * shrink))))
    check_memory(image)
    return _Plan(measured, turn)


def _orientation(image: Image.Image) -> int:
    """The turn that the header records. A PNG's own `getexif` would decode it to look behind the pixels."""
    try:
        exif = image.getexif() if "exif" in image.info else Image.Image.getexif(image)
        return int(exif.get(0x0112, 1))
    except Exception:  # a broken record of a camera is no reason to lose the image
        return 1


def _changes_of_mode(image: Image.Image) -> list[str]:
    if image.mode == "F":
        raise DataError("floating-point pixels have no fixed range: save the image with 8 or 16 bits per channel.")
    if image.mode.startswith("I"):
        return ["16 bits per channel reduced to 8"]
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        return ["transparent areas made white"]
    return [] if image.mode in ("RGB", "L", "P", "1") else [f"converted from {image.mode} to RGB"]


@contextmanager
def _header(source: ImageSource) -> Iterator[tuple[Image.Image, Any]]:
    """The image with its header alone read, and its file, which is closed afterwards. Raises `DataError`."""
    with warnings.catch_warnings(action="ignore"):  # of large images: the limit here is REFUSED_PIXELS
        if isinstance(source, Image.Image):
            with damage_refused():
                yield source, None
            return
        if isinstance(source, Path):
            try:
                if not source.is_file():  # a pipe would wait for a writer for ever, and a device never ends
                    raise FileNotFoundError
                file: Any = source.open("rb")
            except (OSError, ValueError):
                raise DataError(
                    f"there is no file {_short(source)} that can be read: give a path relative to the rows."
                ) from None
        else:
            file = file_in_memory(source)
        with file:
            try:
                image = open_header(file)
            except UnidentifiedImageError:
                remedy = f"its format is none of {', '.join(FORMATS)}: convert it to PNG or JPEG"
                raise DataError(f"Pillow cannot read this file as an image, {remedy}.") from None
            except Image.DecompressionBombError:
                raise DataError(f"the image has more than {REFUSED_PIXELS:,} pixels: scale it down first.") from None
            except Exception as error:
                raise DataError(f"the image cannot be opened ({error!r}): convert it to PNG or JPEG.") from None
            with damage_refused():
                yield image, file


@contextmanager
def damage_refused() -> Iterator[None]:
    """Every error of Pillow as a `DataError`. Its readers of formats raise what they like on damaged files."""
    try:
        yield
    except (DataError, ConfigError):
        raise
    except Exception as error:
        raise DataError(f"the file is damaged or incomplete ({_reason(error)}): copy it again.") from None


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 200 else f"{text[:100]}...{text[-60:]}"


def _has_end(image: Image.Image, file: Any) -> bool:
    """Whether the file's own end mark is there; False where it must be decoded to know.

    In the pixels of a JPEG the mark cannot occur. In its header it can, in a small preview.
    """
    header = file.tell()
    length = file.seek(0, io.SEEK_END)
    try:
        if image.format == "WEBP":
            file.seek(4)
            return int.from_bytes(file.read(4), "little") + 8 <= length
        mark = _ENDS.get(image.format or "")
        if mark is None:
            return False
        start = max(header, length - _TAIL)
        file.seek(start)
        return mark in file.read()
    finally:
        file.seek(header)


def _load(image: Image.Image, tolerant: bool = False) -> list[str]:
    """Decode the image. Returns a note where it is damaged and `tolerant`; raises `DataError` otherwise."""
    try:
        image.load()
    except Exception as error:
        damage = f"the file is damaged or incomplete ({_reason(error)})"
    else:
        return []
    if tolerant:
        with _tolerance:  # Pillow's switch is one for the whole process
            ImageFile.LOAD_TRUNCATED_IMAGES = True
            try:
                image.load()
                return [damage]
            except Exception:
                pass
            finally:
                ImageFile.LOAD_TRUNCATED_IMAGES = False
    raise DataError(f"{damage}: copy it again.")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")


def _rgb(image: Image.Image) -> Image.Image:
    """The image in 8-bit RGB; itself if it is so already. Only one copy of a large image is in memory."""
    if image.mode.startswith("I"):
        _check_range(image)
        return _by_bands(image, _of_16_bits)
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        return _by_bands(image, _on_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def _of_16_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(image).astype(np.int64) // 257).astype(np.uint8)).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    opaque = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")


def _by_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The image converted pixel by pixel, some rows at a time."""
    rows = max(1, _BAND // image.width)
    if rows >= image.height:
        return convert(image)
    result = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        result.paste(convert(band), (0, top))
    return result


def _check_range(image: Image.Image) -> None:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise DataError("32-bit channels have no fixed range: save the image with 8 or 16 bits per channel.")
