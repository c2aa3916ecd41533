"""Chat conversations about images: with the images in their places, and with bare places beside a list of images."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from difference_feedback.errors import DataError

Conversation = list[dict[str, Any]]


def split_images(prompt: Conversation) -> tuple[Conversation, list[Image.Image]]:
    """A conversation with images inside -> the conversation with bare image parts, and the images in order."""
    images: list[Image.Image] = []
    conversation = []
    for message in prompt:
        content = message["content"]
        if not isinstance(content, str):
            images += [part["image"] for part in content if part["type"] == "image"]
            content = [{"type": "image"} if part["type"] == "image" else _text_part(part) for part in content]
        conversation.append({"role": message["role"], "content": content})
    return conversation, images


def _text_part(part: dict[str, Any]) -> dict[str, str]:
    if part["type"] != "text":
        raise DataError(
            f"field 'prompt': a part of type {part['type']!r} cannot be repaired; use text and image parts."
        )
    return {"type": "text", "text": part["text"]}


def fill_images(prompt: Conversation, images: Sequence[Image.Image]) -> Conversation:
    """A conversation with bare image parts and the images in order -> the conversation with the images inside.

    Content that is plain text becomes a text part, as chat templates of vision-language models want it; in the user's
    first message all images go before it.

    Raises:
        DataError: not as many images as places for them.
    """
    filled: Conversation = []
    places, asked = [], False
    for message in prompt:
        content = message["content"]
        if isinstance(content, str):
            first = message["role"] == "user" and not asked
            content = [{"type": "image"} for _ in images if first] + [{"type": "text", "text": content}]
        asked |= message["role"] == "user"
        parts = [dict(part) for part in content]
        places += [part for part in parts if part["type"] == "image" and "image" not in part]
        filled.append({**message, "content": parts})
    if len(places) != len(images):
        raise DataError(f"field 'images': {len(images)} images for {len(places)} image parts; give one for each")
    for part, image in zip(places, images, strict=True):
        part["image"] = image
    return filled


def conversation(question: str, num_images: int) -> list[dict[str, Any]]:
    """A chat conversation of one turn: the images' places, then the question."""
    images: list[dict[str, Any]] = [{"type": "image"} for _ in range(num_images)]
    return [{"role": "user", "content": [*images, {"type": "text", "text": question}]}]
