"""Images in the parquet files that verl reads: as references to files where there are files, else as bytes."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from difference_feedback.data.image_files import png_bytes
from difference_feedback.data.pictures import LazyImages, Opener, Picture, open_picture

_NEVER_ENLARGED = {"min_pixels": 1}
"""verl would enlarge an image below 56 x 56 pixels; the model's own processor sees to its least size, as on TRL."""


def stored_images(images: Sequence[Image.Image]) -> list[dict[str, Any]]:
    """A row's images: each the path of its file in `image`, or its file in `bytes`.

    How an image of one's own data is converted and scaled stands in `picture`. Where no conversion is needed, and all
    images of the file are paths or all are bytes, verl's own `RLHFDataset` reads them as well.
    """
    if isinstance(images, LazyImages):
        return [_reference(picture, images.opener) for picture in images.pictures]
    return [{"bytes": png_bytes(image), **_NEVER_ENLARGED} for image in images]


def _reference(picture: Picture, opener: Opener) -> dict[str, Any]:
    file = opener.file_of(picture)
    stored: dict[str, Any] = {"image": str(file)} if isinstance(file, Path) else {"bytes": bytes(file)}
    settings = {"source": opener.name, "min_side": opener.min_side, "max_pixels": opener.max_pixels}
    return stored | _NEVER_ENLARGED | {"picture": json.dumps({**settings, "picture": picture})}


def opened(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The image of a row, as verl puts it into a message. Raises `DataError`, with the row, where it cannot be read."""
    file = Path(stored["image"]) if stored.get("image") else stored["bytes"]
    if stored.get("picture"):
        image = open_picture(lambda: file, **json.loads(stored["picture"]))
    else:
        image = Image.open(file if isinstance(file, Path) else io.BytesIO(file))
    return {"image": image, "min_pixels": stored["min_pixels"]}
