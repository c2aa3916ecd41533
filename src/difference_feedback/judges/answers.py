"""Ask a model questions and have its answers graded: evaluation, drafts and the filter of questions all do this."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from difference_feedback import world
from difference_feedback.data.question import Question
from difference_feedback.judges.questions import Grade, Grader
from difference_feedback.models.generate import answer_questions
from difference_feedback.models.ranks import shared_work


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
    over_ranks: bool = False,
    **sampling: Any,
) -> list[list[Rollout]]:
    """Answer each question as `answer_questions` does, and grade every answer.

    `grade` is called with a question and a response, or its method `grade` once with all of them. With `over_ranks`,
    all ranks make this call with the same arguments and share the work; the results are those of a single rank.
    """
    sampled = answer_questions(model, processor, questions, over_ranks=over_ranks, **sampling)
    responses = [(q, answer.text) for q, answers in zip(questions, sampled, strict=True) for answer in answers]

    def verdicts_on(part: Sequence[tuple[Question, str]]) -> list[bool | None]:
        if callable(grade):
            graded = [grade(question, text) for question, text in part]
            return [None if verdict is None else bool(verdict) for verdict in graded]
        return grade.grade([question for question, _ in part], [text for _, text in part])

    verdict = iter(shared_work(responses, verdicts_on) if over_ranks else verdicts_on(responses))
    return [
        [Rollout(answer.token_ids, answer.text, next(verdict)) for answer in of_question] for of_question in sampled
    ]
