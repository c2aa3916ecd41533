"""Pictures as data URLs for a server, each made once: as its own JPEG file where that loses nothing, else as PNG."""

import io
import math
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Lock
from typing import Any

from PIL import Image

from difference_feedback.data.bare_jpeg import bare_jpeg
from difference_feedback.data.bounded_memory import BoundedMemory
from difference_feedback.data.image_files import content_key, data_url, jpeg_of, png_bytes
from difference_feedback.data.image_limits import check_memory, open_header
from difference_feedback.errors import DataError

_REMEMBERED = 2**26
"""Characters of URLs that are kept: some forty of photographs of a megapixel as PNG."""

_opening = Lock()
"""Of images: their readers set what is one for the whole process (how warnings are shown)."""


class PictureURLs:
    """Makes data URLs of at most `max_pixels`. Threads may share it; several that need the same one wait for it."""

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self._memory: BoundedMemory[str] = BoundedMemory(_REMEMBERED)
        self._under_way: dict[Any, Future[str]] = {}
        self._lock = Lock()

    def of(self, images: Sequence[Image.Image]) -> list[str]:
        """The URLs of images, which are opened here where they are not yet. Raises `DataError` as opening does."""
        with _opening:
            opened = list(images)
        return [self._url(image) for image in opened]

    def _url(self, image: Image.Image) -> str:
        file = jpeg_of(image)
        key = content_key(image), file if isinstance(file, Path) else file is not None
        with self._lock:
            url = self._memory.get(key)
            if url is not None:
                return url
            future = self._under_way.get(key)
            is_mine = future is None
            if future is None:
                future = self._under_way[key] = Future()
        if not is_mine:
            return future.result()
        try:
            url = _encoded(image, self.max_pixels)
            self._memory.put(key, url, len(url))
            future.set_result(url)
        except BaseException as error:
            future.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._under_way[key]
        return url


def _encoded(image: Image.Image, max_pixels: int) -> str:
    """The image in a data URL, scaled down to at most `max_pixels`."""
    scale = math.sqrt(max_pixels / (image.width * image.height))
    if scale < 1:
        image = image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))
    elif (jpeg := _same_jpeg(image)) is not None:
        return data_url(jpeg, "image/jpeg")
    return data_url(png_bytes(image.convert("RGB")))


def _same_jpeg(image: Image.Image) -> bytes | None:
    """The image's own file without its metadata, if what it shows is still the image, to the last bit."""
    file = jpeg_of(image)
    if file is None:
        return None
    try:
        data = bare_jpeg(file.read_bytes() if isinstance(file, Path) else file)
        with _opening:
            decoded = open_header(io.BytesIO(data))
            check_memory(decoded)
        if decoded.size == image.size and decoded.convert("RGB").tobytes() == image.convert("RGB").tobytes():
            return data
    except (DataError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        pass  # the file has been replaced since the image was opened
    return None
