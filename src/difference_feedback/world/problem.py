"""A problem of the embedded world: a question about images, with the truth by which answers are graded."""

from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from difference_feedback.data.conversations import conversation, with_system

ImageSplit = Literal["warm", "repair", "rl", "test"]
"""Disjoint sets of images: for the labelled warm start, for the oracle's repairs, for RL, and held out for tests."""
SPLITS: tuple[ImageSplit, ...] = ("warm", "repair", "rl", "test")


@dataclass(frozen=True)
class Problem:
    """A visual question. `facts` say what the images show, as plain JSON values: all that a grader needs."""

    task: str
    split: ImageSplit
    question: str
    images: tuple[Image.Image, ...]
    answer: str
    facts: dict[str, Any]
    system: str | None = None
    """The system message of the prompt."""

    @property
    def prompt(self) -> list[dict[str, Any]]:
        """The chat conversation for the policy, with an image part for each image."""
        return with_system(conversation(self.question, len(self.images)), self.system)
