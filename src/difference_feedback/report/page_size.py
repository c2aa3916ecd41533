"""Keep the page small: images scaled to what a page shows, and no more examples than a browser opens quickly."""

import base64
import io

from difference_feedback.data.image_files import data_url, open_image
from difference_feedback.data.image_limits import open_header
from difference_feedback.errors import DataError
from difference_feedback.report.data import Example, ShownAnswer
from difference_feedback.report.shown import SHOWN, evenly

MOST_BYTES = 16_000_000
"""Of all examples on the page, their images included."""
SMALL = 160  # pixels: an image below this width is enlarged without smoothing
_AS_IT_IS = 50_000  # characters of a data URL that goes onto the page unchanged
_PIXELS = 480 * 480  # of a larger one
_OF_A_TOKEN = 170  # bytes: its tag, classes and tooltip


def fitting(examples: list[Example]) -> list[Example]:
    """The examples with their images scaled, as many as fit onto the page, evenly spread; one at least."""
    chosen = evenly(examples, SHOWN)
    small = [example.model_copy(update={"images": list(map(scaled, example.images))}) for example in chosen]
    needed = sum(map(_size, small))
    return small if needed <= MOST_BYTES else evenly(small, max(1, len(small) * MOST_BYTES // needed))


def is_small(url: str) -> bool:
    """Whether an image is so small that it must be enlarged."""
    try:
        with open_header(io.BytesIO(_bytes(url))) as image:
            return image.width < SMALL
    except (ValueError, OSError, SyntaxError):
        return False


def scaled(url: str) -> str:
    """A large image as a small JPEG; nothing in its place where it cannot be read."""
    if len(url) <= _AS_IT_IS:
        return url
    try:
        image = open_image(_bytes(url), min_side=1, max_pixels=_PIXELS).image
    except (DataError, ValueError):
        return _NOTHING
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return data_url(buffer.getvalue(), "image/jpeg")


_NOTHING = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="


def _bytes(url: str) -> bytes:
    return base64.b64decode(url.partition(",")[2])


def _size(example: Example) -> int:
    texts = [example.question, example.answer or "", example.reference or "", *example.images]
    return sum(map(len, texts)) + _size_of(example.wrong) + _size_of(example.repair)


def _size_of(answer: ShownAnswer) -> int:
    return sum(len(token) + _OF_A_TOKEN for token in answer.tokens)
