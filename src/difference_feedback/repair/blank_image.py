"""`g_vis`, a factor of the repair reward: 0 if the draft can be repaired without the image. [DF, Eq. 3, "C1"]

    g_vis(x, y) = 1 − 1[R(x, ỹ^∅) ≥ τ]

`ỹ^∅` is the repair of the same draft made from a stand-in for the image, blank or noise. The reference is left out of
its prompt (our decision), because with the reference a repair model is right without the image, and the factor would
always be 0. The factor depends on the draft alone. If it is 0, all repairs of the draft have the reward 0, so their
advantages are 0 and the draft does not change the model. A question without an image has nothing to blank, and its
factor is 0: no repair can show there that it needs the image.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from accelerate.utils import gather_object

from difference_feedback.data.conversations import fill_images
from difference_feedback.judges.blank_image import StandIn, stand_in
from difference_feedback.method.groups import least_right


class BlankImageFactor:
    """A `reward.Factor`. Before each batch is graded, `observe` must get what the repair model wrote without the image.

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
        self.least_right = least_right(threshold)
        self.repaired_blind: frozenset[str] = frozenset()
        """Ids of the current batch's drafts that are repaired without the image; their factor is 0."""
        self.without_image: frozenset[str] = frozenset()
        """Ids of those that have no image; their factor is 0, too."""

    def blind_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The rows to generate for: each draft with images once per stand-in, with the stand-ins inside `prompt`."""
        blind = []
        self.without_image = frozenset(row["draft_id"] for row in rows if not row["images"])
        for name, row in {row["draft_id"]: row for row in rows if row["images"]}.items():
            for kind in self.stand_ins:
                images = [stand_in(image, kind, _seed(name, i)) for i, image in enumerate(row["images"])]
                prompt = fill_images(row["blind_prompt"], images)
                blind.append({**row, "prompt": prompt, "images": images})
        return blind

    def observe(self, rows: Sequence[Mapping[str, Any]], texts: Sequence[str], token_ids: Sequence[list[int]]) -> float:
        """Grade the repairs of `blind_rows`. A draft that is repaired right on any rank gets the factor 0.

        Returns the share of right repairs among the judged ones of all ranks, NaN where none is judged; a draft that
        several ranks have counts once. An unjudged repair is no sign that the draft can be repaired without the image.
        """
        right: list[bool | None] = []
        if rows:
            columns = {name: [row[name] for row in rows] for name in rows[0] if name != "prompt"}
            completions = [[{"role": "assistant", "content": text}] for text in texts]
            prompts = [row["prompt"] for row in rows]
            graded = self.grade(prompts=prompts, completions=completions, completion_ids=list(token_ids), **columns)
            right = [None if reward is None else reward >= self.least_right for reward in graded]
        hits = [((row["draft_id"], i % len(self.stand_ins)), right[i]) for i, row in enumerate(rows)]
        everywhere: dict[tuple[str, int], bool | None] = dict(gather_object(hits))
        self.repaired_blind = frozenset(name for (name, _), hit in everywhere.items() if hit)
        judged = [hit for hit in everywhere.values() if hit is not None]
        return sum(judged) / len(judged) if judged else math.nan if everywhere else 0.0

    def __call__(self, *, draft_id: Sequence[str], **_: Any) -> list[float]:
        return [0.0 if name in self.repaired_blind | self.without_image else 1.0 for name in draft_id]


def _seed(name: str, image: int) -> int:
    return int.from_bytes(hashlib.sha1(f"{name} {image}".encode()).digest()[:4], "big")
