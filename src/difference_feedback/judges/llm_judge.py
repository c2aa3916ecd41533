"""A language model that grades open answers: structured verdicts, a majority of votes, and `unjudged`.

An answer that cannot be judged has the verdict None. As a reward, None is not 0: TRL and `DFGRPOTrainer` leave such an
answer out of the group's mean and out of the update.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from difference_feedback.data.conversations import text_of, texts_of
from difference_feedback.data.question import Question
from difference_feedback.data.untrusted import RULE, fence, parse_strictly
from difference_feedback.errors import DifferenceFeedbackError
from difference_feedback.judges.chat import ChatAnswer, ChatClient, ChatRequest
from difference_feedback.runs.sections import Judge, Section

SYSTEM = (
    "You grade answers to questions on images. You are given the question, the annotated correct answer, and a "
    "response. Find the response's final answer and decide whether it means the same as the annotated answer. How it "
    "was reached, its style and its length do not matter. Several different final answers, or none, are incorrect.\n\n"
    + RULE
    + '\n\nAnswer with one JSON object and nothing else: {"extracted": the response\'s final answer as written, '
    '"verdict": "correct" or "incorrect", "reason": one sentence}.'
)


class Vote(Section):
    """The judge's answer."""

    extracted: str
    verdict: Literal["correct", "incorrect"]
    reason: str


class JudgeDownError(DifferenceFeedbackError):
    """The judge has judged no answer of a batch, and the recipe asks to stop in that case."""


@dataclass(frozen=True)
class Judgement:
    """The majority's verdict; None: unjudged.

    `votes` are the votes that could be read. `reason` is the first vote's reason, or why there is no verdict.
    """

    correct: bool | None
    votes: tuple[Vote, ...]
    reason: str


class LLMJudge:
    """Judges responses over an endpoint. `counts` holds the correct, incorrect and unjudged responses so far.

    `rules` are a benchmark's own, which the judge is told beside the usual ones.
    """

    def __init__(self, settings: Judge, client: ChatClient | None = None, rules: str = "") -> None:
        self.settings = settings
        self.rules = rules
        self.client = client or ChatClient(settings.endpoint)
        self.counts: Counter[str] = Counter()

    def judge(
        self,
        questions: Sequence[str],
        images: Sequence[Sequence[Image.Image]],
        responses: Sequence[str],
        answers: Sequence[str],
        progress: str | None = None,
    ) -> list[Judgement]:
        """One judgement for each response, in order.

        Raises `JudgeDownError` where none of them could be judged, and the settings say to stop then.
        """
        votes = self.settings.votes
        requests = [
            request(question, shown, response, answer, self.settings.temperature, vote, self.rules)
            for question, shown, response, answer in zip(questions, images, responses, answers, strict=True)
            for vote in range(votes)
        ]
        replies = self.client.ask(requests, progress)
        judged = zip(questions, responses, answers, strict=True)
        judgements = [majority(replies[i * votes : (i + 1) * votes], texts) for i, texts in enumerate(judged)]
        if judgements and self.settings.when_down == "stop" and all(j.correct is None for j in judgements):
            raise JudgeDownError(
                f"judge: {self.settings.endpoint.model} judged none of {len(judgements)} answers "
                f"({judgements[0].reason}). Start it again and repeat the same command, or set judge.when_down=open to "
                "go on without verdicts."
            )
        names = {True: "correct", False: "incorrect", None: "unjudged"}
        self.counts.update(names[judgement.correct] for judgement in judgements)
        return judgements

    def grade(self, questions: Sequence[Question], responses: Sequence[str]) -> list[bool | None]:
        """Verdicts on responses to a data set's questions."""
        texts, answers = [q.question for q in questions], [q.answer for q in questions]
        judgements = self.judge(texts, [q.images for q in questions], responses, answers, "judging")
        return [judgement.correct for judgement in judgements]

    def reward(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        *,
        answer: Sequence[str],
        images: Sequence[Sequence[Image.Image]] | None = None,
        log_metric: Any = None,
        **_: Any,
    ) -> list[float | None]:
        """TRL reward function: 1.0 or 0.0, or None for an unjudged answer. Logs the share `judge/unjudged`."""
        texts = texts_of(completions)
        questions = [prompt if isinstance(prompt, str) else text_of(prompt[-1]) for prompt in prompts]
        judgements = self.judge(questions, images or [()] * len(texts), texts, answer)
        if log_metric is not None and judgements:
            log_metric("judge/unjudged", sum(judgement.correct is None for judgement in judgements) / len(judgements))
        return [None if judgement.correct is None else float(judgement.correct) for judgement in judgements]


def request(
    question: str,
    images: Sequence[Image.Image],
    response: str,
    answer: str,
    temperature: float = 0.0,
    vote: int = 0,
    rules: str = "",
) -> ChatRequest:
    """The judge's prompt. The fences' codes differ between votes, so that votes can differ at temperature 0 too."""
    fenced = [
        fence("QUESTION", question, str(vote)),
        fence("ANNOTATED-ANSWER", answer, str(vote)),
        fence("RESPONSE", response, str(vote)),
    ]
    content: list[dict[str, Any]] = [{"type": "image"} for _ in images]
    content.append({"type": "text", "text": "\n\n".join(fenced) + "\n\nYour verdict on the response, as JSON:"})
    system = f"{SYSTEM}\n\n{rules}" if rules else SYSTEM
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}, {"role": "user", "content": content}]
    return ChatRequest(
        messages,
        images,
        Vote.model_json_schema(),
        temperature,
        seed=vote,
        readable=lambda text: parse_strictly(text, Vote, (question, response, answer)) is not None,
    )


def majority(answers: Sequence[ChatAnswer], judged: Sequence[str] = ()) -> Judgement:
    """The verdict of more than half of all votes asked for. A vote that cannot be read counts for neither verdict.

    Nor does one that stands in the texts that were `judged`: see `parse_strictly`.
    """
    votes, failures = [], []
    for answer in answers:
        text = answer.texts[0] if answer.texts else None
        vote = None if text is None else parse_strictly(text, Vote, judged)
        if vote is None:
            failures.append(answer.error or "the judge's answer is not the JSON object asked for")
        else:
            votes.append(vote)
    correct = sum(vote.verdict == "correct" for vote in votes)
    for verdict, count in ((True, correct), (False, len(votes) - correct)):
        if 2 * count > len(answers):
            return Judgement(verdict, tuple(votes), votes[0].reason)
    return Judgement(None, tuple(votes), failures[0] if failures else "no verdict has more than half of the votes")
