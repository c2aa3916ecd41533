"""Open images from outside, of any mode and size, as 8-bit RGB within the limits; refuse the others with a reason."""

import base64
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from difference_feedback.errors import DataError

REFUSED_PIXELS = 150_000_000
"""An image with more pixels is not decoded at all, since a small file can fill the whole memory."""
REFUSED_SIDE = 4
"""An image with a shorter side shows nothing."""
REFUSED_RATIO = 200
"""Qwen2.5-VL's processor rejects an image whose longer side exceeds this many times the shorter one."""


@dataclass(frozen=True)
class OpenedImage:
    """An RGB image. `notes` list the changes that were made to it; they are empty if there were none."""

    image: Image.Image
    notes: tuple[str, ...]


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    """The bytes of an image file as a data URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def open_image(source: Path | bytes | Image.Image, *, min_side: int = 28, max_pixels: int = 1_003_520) -> OpenedImage:
    """Open an image from a file, from a file's bytes, or from an opened image.

    Images above `max_pixels` are scaled down; images whose shorter side is below `min_side` pixels are scaled up.
    Transparent areas become white. CMYK and 16-bit channels become 8-bit RGB. An animation gives its first frame. A
    camera's rotation is applied. Raises `DataError` with the remedy when the source is not an image, is damaged, or has
    an unusable size.
    """
    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is REFUSED_PIXELS
        image = _opened(source)
        width, height = image.size
        if width * height > REFUSED_PIXELS:
            raise DataError(f"{width} x {height} pixels are more than {REFUSED_PIXELS:,}: scale the image down first.")
        if min(width, height) < REFUSED_SIDE:
            raise DataError(f"{width} x {height} pixels are too few to show anything: give the original image.")
        if max(width, height) > REFUSED_RATIO * min(width, height):
            raise DataError(
                f"{width} x {height} pixels: one side is more than {REFUSED_RATIO} times the other: crop the image."
            )
        if getattr(image, "n_frames", 1) > 1:
            notes.append(f"first frame of {image.n_frames}")  # type: ignore[attr-defined]
        shrink = (max_pixels / (width * height)) ** 0.5
        if shrink < 1:
            image.draft("RGB", (max(1, int(width * shrink)), max(1, int(height * shrink))))  # JPEG: decode it smaller
        try:
            image.load()
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise DataError(f"the file is damaged or incomplete ({error}): copy it again.") from None
        turned = ImageOps.exif_transpose(image)
        if turned.size != image.size or image.getexif().get(0x0112, 1) != 1:
            notes.append("rotated as its camera recorded")
        image = _rgb(turned, notes)
    return OpenedImage(_scaled(image, (width, height), min_side, max_pixels, notes), tuple(notes))


def _opened(source: Path | bytes | Image.Image) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, Path) and not source.is_file():
        raise DataError(f"there is no file {source}: give a path relative to the file that names the image.")
    try:
        return Image.open(source if isinstance(source, Path) else io.BytesIO(source))
    except UnidentifiedImageError:
        raise DataError("Pillow cannot read this file as an image: convert it to PNG or JPEG.") from None
    except Image.DecompressionBombError:
        raise DataError(f"the image has more than {REFUSED_PIXELS:,} pixels: scale it down first.") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"the image cannot be opened ({error}): convert it to PNG or JPEG.") from None


def _rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise DataError("floating-point pixels have no fixed range: save the image with 8 or 16 bits per channel.")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise DataError("32-bit channels have no fixed range: save the image with 8 or 16 bits per channel.")
        notes.append("16 bits per channel reduced to 8")
        return Image.fromarray((values // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        notes.append("transparent areas made white")
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", opaque.size, "white")
        return Image.alpha_composite(white, opaque).convert("RGB")
    if image.mode not in ("L", "P", "1"):
        notes.append(f"converted from {image.mode} to RGB")
    return image.convert("RGB")


def _scaled(
    image: Image.Image, original: tuple[int, int], min_side: int, max_pixels: int, notes: list[str]
) -> Image.Image:
    width, height = image.size
    factor = min(1.0, (max_pixels / (width * height)) ** 0.5)
    if min(original) < min_side:
        factor = min_side / min(width, height)
    if factor != 1.0:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        if factor < 1.0:  # rounding up could exceed the limit
            size = (max(1, int(width * factor)), max(1, int(height * factor)))
        image = image.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)
    if original[0] * original[1] > max_pixels:
        notes.append(f"scaled down from {original[0]} x {original[1]}")
    elif factor > 1.0:
        notes.append(f"scaled up from {original[0]} x {original[1]}")
    return image
