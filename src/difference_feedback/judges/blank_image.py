"""Tests without the image: blank or noise stand-ins, and answers from the text alone. [DF, Sec. 3, Eq. 3, "C1"]

A model that is right without the image has not shown that it looks at it.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from PIL import Image
from transformers import PreTrainedModel, ProcessorMixin

from difference_feedback.data.question import Question
from difference_feedback.judges.answers import graded_answers
from difference_feedback.judges.questions import Grade, Grader
from difference_feedback.models.generate import Answerer

StandIn = Literal["blank", "noise"]


def stand_in(image: Image.Image, kind: StandIn, seed: int = 0) -> Image.Image:
    """An image of the same size that shows nothing: `blank` is all zeros, `noise` is uniform in every channel."""
    if kind == "blank":
        return Image.new("RGB", image.size)
    noise = np.random.default_rng(seed).integers(0, 256, (image.height, image.width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def text_only_accuracy(
    policy: PreTrainedModel | Answerer,
    processor: ProcessorMixin,
    questions: Sequence[Question],
    samples: int,
    *,
    grade: Grade | Grader,
    **sampling: Any,
) -> list[float]:
    """For each question, the share of right answers among `samples` that `policy` gives without seeing the images.

    Unjudged answers do not count. Where all are unjudged, the share is 0: nothing shows that the text is enough.
    """
    sampling |= {"num_samples": samples, "from_text_alone": True}
    answers = graded_answers(policy, processor, questions, grade=grade, **sampling)
    judged = [[answer.correct for answer in row if answer.correct is not None] for row in answers]
    return [sum(verdicts) / len(verdicts) if verdicts else 0.0 for verdicts in judged]
