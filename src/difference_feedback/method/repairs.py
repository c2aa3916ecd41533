"""What every repair model offers: a batch of wrong answers in, candidate repairs out. [DF, Sec. 3, Eq. 5]"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image


@dataclass(frozen=True)
class RepairRequest:
    """One wrong answer to repair.

    `prompt` is the policy's own chat conversation, its image parts `{"type": "image"}` in the order of `images`.
    `draft_ids` is the wrong answer as it was sampled, the end-of-sequence token included when it was sampled.
    `reference` is the text of a correct answer: another rollout of the group, or the annotated answer. None withholds
    it, as the blank-image test does.
    """

    prompt: list[dict[str, Any]]
    images: list[Image.Image]
    draft_ids: list[int]
    reference: str | None


@dataclass(frozen=True)
class Repair:
    """A candidate repair, in the policy's tokens, the end-of-sequence token included when it was generated."""

    token_ids: list[int]
    text: str
    projected: bool = False
    """It came as text and was put into the policy's tokens: these are not the ones that were sampled."""


class Repairer(Protocol):
    """A repair model. Grading its candidates is the caller's part: it never says whether a repair is right."""

    def repair(self, requests: Sequence[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
        """Return `num_samples` candidates for each request, in the order of the requests."""
        ...
