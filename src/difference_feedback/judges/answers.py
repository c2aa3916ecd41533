"""Ask a model questions and have its answers graded: evaluation, drafts and the filter of questions all do this."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from difference_feedback import world
from difference_feedback.data.question import Question
from difference_feedback.judges.questions import Grade, Grader
from difference_feedback.models.generate import answer_questions


@dataclass(frozen=True)
class Rollout:
    """One sampled answer; `token_ids` as sampled, the end-of-sequence token included when it was sampled."""

    token_ids: list[int]
    text: str
    correct: bool | None
    """None: unjudged."""


def graded_answers(
    model: Any,
    processor: Any,
    questions: Sequence[Question],
    *,
    grade: Grade | Grader = world.is_correct,
    **sampling: Any,
) -> list[list[Rollout]]:
    """Answer each question as `answer_questions` does, and grade every answer.

    `grade` is called with a question and a response, or its method `grade` once with all of them.
    """
    sampled = answer_questions(model, processor, questions, **sampling)
    repeated = [question for question, answers in zip(questions, sampled, strict=True) for _ in answers]
    texts = [answer.text for answers in sampled for answer in answers]
    verdicts: list[bool | None]
    if callable(grade):
        verdicts = [bool(grade(question, text)) for question, text in zip(repeated, texts, strict=True)]
    else:
        verdicts = grade.grade(repeated, texts)
    verdict = iter(verdicts)
    return [
        [Rollout(answer.token_ids, answer.text, next(verdict)) for answer in of_question] for of_question in sampled
    ]
