"""Open images from outside: whatever their mode and size, as 8-bit RGB within the limits, or with a clear refusal."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from difference_feedback.errors import DataError

REFUSED_PIXELS = 150_000_000
"""Above this an image is not decoded at all: a small file can unpack into all the memory there is."""
REFUSED_SIDE = 4
"""Below this there is nothing to see."""
REFUSED_RATIO = 200
"""Longer than this times its width, an image is refused by Qwen2.5-VL's processor."""


@dataclass(frozen=True)
class OpenedImage:
    """An RGB image; `notes` say what was changed to make it one, and are empty when nothing was."""

    image: Image.Image
    notes: tuple[str, ...]

    def png(self) -> bytes:
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG")
        return buffer.getvalue()


def open_image(source: Path | bytes | Image.Image, *, min_side: int = 28, max_pixels: int = 1_003_520) -> OpenedImage:
    """Open an image file, an image file's bytes, or an opened image.

    Larger images are scaled down to `max_pixels`, smaller ones up until the shorter side has `min_side`. Transparency
    is put on white, CMYK and 16 bits a channel become 8-bit RGB, of an animation the first frame is taken, a camera's
    rotation is applied. Raises `DataError` (what is wrong, and the remedy) for what is no image, is damaged, or has a
    size that makes no sense.
    """
    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is REFUSED_PIXELS
        image = _opened(source)
        width, height = image.size
        if width * height > REFUSED_PIXELS:
            raise _too_large(width, height)
        if min(width, height) < REFUSED_SIDE:
            raise DataError(f"{width} x {height} pixels show nothing: give the original image.")
        if max(width, height) > REFUSED_RATIO * min(width, height):
            raise DataError(f"{width} x {height} pixels: longer than {REFUSED_RATIO} times its width: crop it.")
        if getattr(image, "n_frames", 1) > 1:
            notes.append(f"first frame of {image.n_frames}")  # type: ignore[attr-defined]
        shrink = (max_pixels / (width * height)) ** 0.5
        if shrink < 1:
            image.draft("RGB", (max(1, int(width * shrink)), max(1, int(height * shrink))))  # JPEG: decode it smaller
        try:
            image.load()
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise DataError(f"damaged or cut off ({error}): copy the file again.") from None
        turned = ImageOps.exif_transpose(image)
        if turned.size != image.size or image.getexif().get(0x0112, 1) != 1:
            notes.append("turned as its camera says")
        image = _rgb(turned, notes)
    return OpenedImage(_scaled(image, (width, height), min_side, max_pixels, notes), tuple(notes))


def _opened(source: Path | bytes | Image.Image) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, Path) and not source.is_file():
        raise DataError(f"no file {source}: image paths are relative to the file that names them.")
    try:
        return Image.open(source if isinstance(source, Path) else io.BytesIO(source))
    except UnidentifiedImageError:
        raise DataError("not an image that Pillow can read: convert it to PNG or JPEG.") from None
    except Image.DecompressionBombError:
        raise DataError(f"more than {REFUSED_PIXELS:,} pixels: scale it down first.") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"cannot be opened ({error}): convert it to PNG or JPEG.") from None


def _too_large(width: int, height: int) -> DataError:
    return DataError(f"{width} x {height} pixels are more than {REFUSED_PIXELS:,}: scale it down first.")


def _rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise DataError("floating-point pixels have no fixed brightness: save it with 8 or 16 bits a channel.")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise DataError("32 bits a channel have no fixed brightness: save it with 8 or 16 bits a channel.")
        notes.append("16 bits a channel to 8")
        return Image.fromarray((values // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        notes.append("transparency put on white")
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", opaque.size, "white")
        return Image.alpha_composite(white, opaque).convert("RGB")
    if image.mode not in ("L", "P", "1"):
        notes.append(f"{image.mode} to RGB")
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
        if factor < 1.0:  # rounding must not end above the limit
            size = (max(1, int(width * factor)), max(1, int(height * factor)))
        image = image.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)
    if original[0] * original[1] > max_pixels:
        notes.append(f"scaled down from {original[0]} x {original[1]}")
    elif factor > 1.0:
        notes.append(f"scaled up from {original[0]} x {original[1]}")
    return image
