"""What an image from outside may cost: the formats that are read, and the memory that its pixels take.

A file of a few kilobytes can hold pixels of many gigabytes, so both are checked by the header, before a pixel is
decoded. Other formats of Pillow are not tried at all: some start programs (EPS), some hide a second, larger image.
"""

import warnings
from typing import Any

from PIL import Image

from difference_feedback.errors import DataError

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Pillow's names of the formats that are read."""
REFUSED_PIXELS = 150_000_000
"""An image with more pixels is not decoded at all, since a small file can fill the whole memory."""
REFUSED_BYTES = 2**29
"""An image whose decoding takes more memory is not decoded."""
REFUSED_ANIMATED = 5_000_000_000
"""Pixels of all frames up to the wanted one. A frame of an animation is reached through those before it."""
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes of a pixel as Pillow stores it; 4 in all other modes."""
_DECODERS = {"WEBP": 12, "AVIF": 8}
"""Bytes of a pixel that a format's decoder holds besides."""
_TILE = (322, 323)  # TIFF's tags of a tile's width and length; a tile may be larger than the image


def open_header(file: Any) -> Image.Image:
    """The image with its header alone read, in one of `FORMATS`. Raises as `PIL.Image.open`."""
    Image.init()
    with warnings.catch_warnings(action="ignore"):  # of large images: the limits here are others
        return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])


def check_memory(image: Image.Image) -> None:
    """Raise `DataError` where decoding the image, at the size that it has now, takes more than `REFUSED_BYTES`."""
    needed = decoded_bytes(image)
    if needed > REFUSED_BYTES:
        width, height = image.size
        raise DataError(
            f"{width} x {height} pixels of the mode {image.mode} take {needed / 1e6:,.0f} MB of memory, more than "
            f"{REFUSED_BYTES / 1e6:,.0f} MB: scale the image down first."
        )


def check_frames(image: Image.Image, frames: int) -> None:
    """Raise `DataError` where so many frames of an animation, or one of them, cost too much."""
    check_memory(image)
    width, height = image.size
    if width * height * frames > REFUSED_ANIMATED:
        raise DataError(f"{frames} frames of {width} x {height} pixels take too long: cut or scale the animation.")


def decoded_bytes(image: Image.Image) -> int:
    """The memory that the image takes while it becomes RGB: its own pixels, those of the copy, and its decoder's."""
    width, height = image.size
    stored = _STORED.get(image.mode, 4)
    copied = 0 if image.mode == "RGB" and "transparency" not in image.info else 4
    needed = width * height * (stored + copied + _DECODERS.get(image.format or "", 0))
    if image.format == "JPEG2000":
        needed += width * height * 4 * len(image.getbands())
    elif image.format in ("JPEG", "MPO") and image.info.get("progressive"):
        needed += _coefficients(image)
    elif image.format == "TIFF":
        across, down = (int(image.tag_v2.get(tag) or 0) for tag in _TILE)  # type: ignore[attr-defined]
        needed += across * down * stored
    return needed


def _coefficients(image: Any) -> int:
    """Bytes of a progressive JPEG's coefficients, which are all kept, at its full size, until the last scan."""
    scale = image.decoderconfig[0] if image.decoderconfig else 1
    parts = [(across, down) for _, across, down, _ in image.layer]
    most = max((across for across, _ in parts), default=1) * max((down for _, down in parts), default=1)
    pixels = image.width * image.height * scale**2
    return int(2 * pixels * sum(across * down for across, down in parts) / most)
