"""The interface of a question: an embedded problem, or a row of a data set."""

from collections.abc import Sequence
from typing import Any, Protocol

from PIL import Image


class Question(Protocol):
    """A question on images, with the answer by which responses are graded."""

    @property
    def task(self) -> str: ...
    @property
    def question(self) -> str: ...
    @property
    def images(self) -> Sequence[Image.Image]: ...
    @property
    def answer(self) -> str: ...
    @property
    def prompt(self) -> list[dict[str, Any]]:
        """The chat conversation for the policy, with an image part for each image."""
        ...


def without_images(prompt: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same conversation without its image parts."""
    return [
        message
        if isinstance(message["content"], str)
        else {**message, "content": [part for part in message["content"] if part["type"] != "image"]}
        for message in prompt
    ]
