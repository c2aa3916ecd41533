"""Images in their places, and out of them again."""

import pytest
from PIL import Image

from difference_feedback.data.conversations import fill_images, split_images
from difference_feedback.errors import DataError

RED, BLUE = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
PROMPT = [
    {"role": "system", "content": [{"type": "text", "text": "be brief"}]},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "and"}, {"type": "image"}]},
]


def test_filling_and_splitting_are_inverse() -> None:
    filled = fill_images(PROMPT, [RED, BLUE])
    assert [part.get("image") for part in filled[1]["content"]] == [RED, None, BLUE]
    assert split_images(filled) == (PROMPT, [RED, BLUE])
    assert PROMPT[1]["content"][0] == {"type": "image"}, "the prompt given is left as it was"


def test_before_plain_text_go_all_images() -> None:
    prompt = [{"role": "user", "content": "first"}, {"role": "user", "content": "second"}]
    first, second = fill_images(prompt, [RED, BLUE])
    assert [part["type"] for part in first["content"]] == ["image", "image", "text"]
    assert second["content"] == [{"type": "text", "text": "second"}]


@pytest.mark.parametrize("images", [[], [RED], [RED, BLUE, RED]])
def test_as_many_images_as_places(images: list[Image.Image]) -> None:
    with pytest.raises(DataError, match=f"{len(images)} images, but 2 image parts"):
        fill_images(PROMPT, images)
