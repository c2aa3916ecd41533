"""What every embedded task produces: a question about images, with the truth that its answers are graded by."""

from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from difference_feedback.data.conversations import conversation

Split = Literal["warm", "repair", "rl", "test"]
"""Sets of images, no image in two: for the labelled warm start, for hand repairs, for RL, and held out."""
SPLITS: tuple[Split, ...] = ("warm", "repair", "rl", "test")


@dataclass(frozen=True)
class Problem:
    """A visual question. `facts` is what the images show, as plain JSON values: everything a grader needs."""

    task: str
    split: Split
    question: str
    images: tuple[Image.Image, ...]
    answer: str
    facts: dict[str, Any]

    @property
    def prompt(self) -> list[dict[str, Any]]:
        """The chat conversation put to the policy; image parts stand where the images go."""
        return conversation(self.question, len(self.images))
