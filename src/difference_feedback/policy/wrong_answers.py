"""Keep a training run's wrong answers as items to annotate, each with a right answer to the same question."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from difference_feedback.data.conversations import bare, marked_text, texts_of
from difference_feedback.data.saved_images import save_images
from difference_feedback.method.groups import least_right
from difference_feedback.runs.jsonl import JsonLines
from difference_feedback.runs.rewards import EMBEDDED
from difference_feedback.trl.rollouts import total_rewards


class WrongAnswers:
    """Appends to `items.jsonl` in a run's folder, at most `limit` items, one a question. For `ExactResume.watch`."""

    def __init__(
        self,
        folder: Path,
        limit: int,
        weights: Sequence[float] = (1.0,),
        threshold: float = 1.0,
        rule: str = EMBEDDED,
    ) -> None:
        """`weights` of the reward functions; an answer is right from a weighted sum of `threshold` on.

        `rule` has the names of the rewards, which say to the page by what the answers were graded.
        """
        self.folder = folder
        self.limit = limit
        self.weights = torch.tensor(weights)
        self.least_right = least_right(threshold)
        self.rule = rule
        self.rows = JsonLines(folder / "items.jsonl")
        self._known = {str(row.get("id")) for _, row in self.rows.read()[0]}  # those of the run before it was resumed

    def __call__(self, inputs: list[dict[str, Any]], completions: list[Any], rewards: torch.Tensor) -> None:
        """`rewards` `(n, F)`; an answer that no function judged is neither right nor wrong."""
        texts = texts_of(completions)
        graded = zip(inputs, texts, total_rewards(rewards, self.weights).tolist(), strict=True)
        for name, group in groupby(graded, key=lambda answer: _name(answer[0])):
            answers = list(group)
            right = [text for _, text, reward in answers if reward >= self.least_right]
            wrong = [text for _, text, reward in answers if reward < self.least_right and text.strip()]
            if right and wrong and name not in self._known and len(self._known) < self.limit:
                self._known.add(name)
                self.rows.append(self._item(name, answers[0][0], wrong[0], right[0]))

    def _item(self, name: str, row: Mapping[str, Any], draft: str, reference: str) -> dict[str, Any]:
        item = {
            "id": name,
            "question": marked_text(row["prompt"][-1]),
            "image": save_images(_images(row), self.folder, name),
            "draft": draft.strip(),
            "reference": reference,
        }
        for field in ("answer", "options", "task"):
            if row.get(field):
                item[field] = row[field]
        return item | {"rule": self.rule, "prompt": bare(row["prompt"])}


def _images(row: Mapping[str, Any]) -> Sequence[Image.Image]:
    return row.get("images") or ([row["image"]] if row.get("image") is not None else [])


def _name(row: Mapping[str, Any]) -> str:
    """The question's id; without one, a hash of what is asked."""
    if row.get("id"):
        return str(row["id"])
    digest = hashlib.sha1(marked_text(row["prompt"][-1]).encode())
    for image in _images(row):
        digest.update(image.tobytes())
    return digest.hexdigest()[:12]
