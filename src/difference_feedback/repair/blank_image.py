"""`g_vis`: no reward for repairing what can be repaired without looking. [DF, Eq. 3, "C1"]

    g_vis(x, y) = 1 − 1[R(x, ỹ^∅) ≥ τ]

`ỹ^∅` is the repair of the same draft made from a stand-in for the image, blank or noise. The reference is withheld
(our decision): with the reference in its prompt a repair model is right without looking, and the factor would always
be 0. The factor depends on the draft alone. It takes the reward of all repairs of that draft, so their advantages are 0
and the draft teaches nothing.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from accelerate.utils import gather_object

from difference_feedback.data.conversations import fill_images
from difference_feedback.judges.blank_image import StandIn, stand_in

Row = Mapping[str, Any]


class BlankImageFactor:
    """A `reward.Factor` that is told, before each batch is graded, what the repair model wrote without the image.

    The rows have `draft_id`, `blind_prompt` (the repair conversation without its reference) and `images`.
    """

    def __init__(
        self,
        grade: Callable[..., Sequence[float | None]],
        stand_ins: Sequence[StandIn] = ("blank", "noise"),
        threshold: float = 1.0,
    ) -> None:
        self.grade = grade
        self.stand_ins = tuple(stand_ins)
        self.threshold = threshold
        self.closed: frozenset[str] = frozenset()
        """The drafts of the batch at hand that are repaired without the image."""

    def blind_rows(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """What to generate for `rows`: each draft once for each stand-in, `prompt` with the stand-ins inside."""
        found = []
        for name, row in {row["draft_id"]: row for row in rows}.items():
            for kind in self.stand_ins:
                images = [stand_in(image, kind, _seed(name, i)) for i, image in enumerate(row["images"] or [])]
                prompt = fill_images(row["blind_prompt"], images)
                found.append({**row, "prompt": prompt, "images": images})
        return found

    def observe(self, rows: Sequence[Row], texts: Sequence[str], token_ids: Sequence[list[int]]) -> float:
        """Grade what was written for `blind_rows` and close the factor of the drafts that came out right, on any rank.

        Returns the share of right ones on this rank.
        """
        if rows:
            columns = {name: [row[name] for row in rows] for name in rows[0] if name != "prompt"}
            completions = [[{"role": "assistant", "content": text}] for text in texts]
            prompts = [row["prompt"] for row in rows]
            graded = self.grade(prompts=prompts, completions=completions, completion_ids=list(token_ids), **columns)
            right = [reward is not None and reward >= self.threshold for reward in graded]
        else:
            right = []
        here = sorted({row["draft_id"] for row, hit in zip(rows, right, strict=True) if hit})
        self.closed = frozenset(gather_object(here))
        return sum(right) / len(right) if right else 0.0

    def __call__(self, *, draft_id: Sequence[str], **_: Any) -> list[float]:
        return [0.0 if name in self.closed else 1.0 for name in draft_id]


def _seed(name: str, image: int) -> int:
    return int.from_bytes(hashlib.sha1(f"{name} {image}".encode()).digest()[:4], "big")
