"""Where `repair check` takes wrong answers from: the policy answers questions, or a file holds them. Round by round."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol

import numpy as np

from difference_feedback.data.draft_rows import DraftRow, load_draft_rows
from difference_feedback.data.question import Question
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.judges.answers import Rollout
from difference_feedback.judges.extraction import final_answer
from difference_feedback.judges.questions import EMBEDDED, FINAL_ANSWER, Grader, draft_questions, grader_of
from difference_feedback.judges.served_model import ServedModel
from difference_feedback.method.repairs import RepairRequest
from difference_feedback.models.end_tokens import written_end
from difference_feedback.models.load import load_model
from difference_feedback.models.outside_text import encode_text
from difference_feedback.models.processor import load_processor
from difference_feedback.models.ranks import ranks
from difference_feedback.repair.drafts import sample_groups
from difference_feedback.runs.file_names import wrong_answers_file
from difference_feedback.runs.jsonl import RowProblem
from difference_feedback.runs.model_folder import local_path
from difference_feedback.runs.prompts import prompt_form
from difference_feedback.runs.repair_check import RepairCheckRecipe

ROUND = 32
"""Questions, or rows of a file, in a round."""
_MOST = 100  # questions that are asked for each wrong answer wanted


@dataclass(frozen=True)
class Draft:
    """A wrong answer to repair. `siblings` are the right answers of its group, where it was sampled in one."""

    id: str
    question_id: str
    question: Any
    token_ids: list[int]
    text: str
    reference: str
    siblings: tuple[Rollout, ...] = ()

    @property
    def request(self) -> RepairRequest:
        return RepairRequest(self.question.prompt, self.question.images, self.token_ids, self.reference)


@dataclass(frozen=True)
class DraftRound:
    """The wrong answers of a round, what was counted on the way, and the rows that turned out to be none."""

    drafts: list[Draft]
    counts: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    unjudged: list[bool] = field(default_factory=list)
    """Of each row of a file, whether the grader gave no verdict on its draft."""


class WrongAnswerSource(Protocol):
    """`rounds(first, wanted)` gives the rounds from number `first` on, until they hold `wanted` wrong answers."""

    name: str
    remedy: str
    """What to do where there is no wrong answer."""
    policy: Any
    """None where only its tokenizer is needed."""
    processor: Any
    grader: Grader
    problems: list[RowProblem]
    content: list[Any]
    """What must not change until an interrupted run ends: the rows of a file, images excepted."""

    def rounds(self, first: int, wanted: int) -> Iterator[tuple[int, DraftRound]]: ...


def draft_source(recipe: RepairCheckRecipe) -> WrongAnswerSource:
    """The source that a recipe names. Raises `DataError` where a file has no usable row."""
    return _Sampled(recipe) if recipe.wrong_answers is None else _FromFile(recipe)


class _Sampled:
    """All wrong answers of the policy to one question after the other that have a right one in their group."""

    def __init__(self, recipe: RepairCheckRecipe) -> None:
        self.recipe = recipe
        self.name = recipe.data.path if recipe.data else "the embedded problems"
        self.remedy = (
            "A wrong answer needs a right one to the same question: sample more answers (sampling.samples), at a "
            "higher temperature, or ask other questions."
        )
        self.problems: list[RowProblem] = []
        self.content: list[Any] = []
        endpoint = recipe.sampling.endpoint
        if endpoint is not None:
            self.policy: Any = ServedModel(endpoint, recipe.policy)
            self.processor = self.policy.processor
        else:
            self.policy, self.processor = _load(recipe)
        self.grader = grader_of(recipe.asking)

    def rounds(self, first: int, wanted: int) -> Iterator[tuple[int, DraftRound]]:
        questions = draft_questions(self.recipe.asking)
        last = 1 + self.recipe.drafts * _MOST // ROUND
        for number in range(last):
            batch = list(islice(questions, ROUND))
            if not batch or wanted <= 0:
                return
            if number < first:
                continue
            drafted = self._round(number, batch)
            kept = replace(drafted, drafts=drafted.drafts[:wanted])
            wanted -= len(kept.drafts)
            yield number, kept

    def _round(self, number: int, questions: Sequence[Question]) -> DraftRound:
        sampling = self.recipe.sampling
        groups = sample_groups(
            self.policy,
            self.processor,
            questions,
            group_size=sampling.samples,
            max_new_tokens=self.recipe.longest,
            temperature=sampling.temperature,
            batch_size=max(1, sampling.batch_size // sampling.samples),
            seed=self.recipe.seed + number,
            grade=self.grader,
        )
        rng = np.random.default_rng([self.recipe.seed, number])
        drafts, alone = [], 0
        for place, group in enumerate(groups):
            name = getattr(group.problem, "id", "") or f"{number * ROUND + place + 1}"
            given = getattr(group.problem, "reference", None)
            for k, wrong in enumerate(group.wrong):
                if not group.correct and given is None:
                    alone += 1
                    continue
                reference = group.correct[rng.integers(len(group.correct))].text if group.correct else str(given)
                siblings = tuple(group.correct)
                drafts.append(
                    Draft(f"{name}-{k}", name, group.problem, wrong.token_ids, wrong.text, reference, siblings)
                )
        counts = {
            "questions": len(groups),
            "answers": sum(len(group.rollouts) for group in groups),
            "judged": sum(len(group.correct) + len(group.wrong) for group in groups),
            "wrong": sum(len(group.wrong) for group in groups),
            "without_right_sibling": alone,
        }
        return DraftRound(drafts, counts)


class _FromFile:
    """The rows of a file that the grader, too, calls wrong. Of more rows than are wanted, so many are drawn."""

    def __init__(self, recipe: RepairCheckRecipe) -> None:
        assert recipe.wrong_answers is not None
        self.recipe, self.name = recipe, recipe.wrong_answers
        self.remedy = "Its rows are right by the grader: look at `answer` and at `reward`."
        weights = recipe.repair_model == "policy" or recipe.min_probability > 0
        self.policy: Any
        self.policy, self.processor = _load(recipe) if weights else (None, load_processor(recipe.policy))
        file = load_draft_rows(
            wrong_answers_file(local_path(recipe.wrong_answers)), prompt_form(recipe.system_prompt).system
        )
        rules = {row.rule for row in file.rows if row.rule is not None}
        embedded = recipe.reward is None and rules == {EMBEDDED.name}
        if (
            recipe.reward is None
            and not embedded
            and (others := sorted(rule for rule in rules if rule != FINAL_ANSWER.name))
        ):
            raise ConfigError(
                f"reward: rows of {self.name} were graded by {others[0]}: give that as reward, or reward=final-answer."
            )
        self.grader: Grader = EMBEDDED if embedded else grader_of(recipe.asking)
        self.problems = list(file.problems)
        self.rows = [row for row in map(self._with_answer, file.rows) if row is not None]
        if not self.rows:
            raise DataError(f"{self.name}: no row can be used: {'; '.join(map(str, self.problems[:5]))}")
        fields = ("id", "asked", "answer", "options", "draft", "reference", "prompt")
        self.content: list[Any] = [[getattr(row, field) for field in fields] for row in self.rows]

    def rounds(self, first: int, wanted: int) -> Iterator[tuple[int, DraftRound]]:
        order = np.random.default_rng(self.recipe.seed).permutation(len(self.rows))
        for number, start in enumerate(range(0, len(order), ROUND)):
            if wanted <= 0:
                return
            if number < first:
                continue
            rows = [self.rows[i] for i in order[start : start + ROUND]]
            drafted = self._round(rows)
            kept = replace(drafted, drafts=drafted.drafts[:wanted])
            wanted -= len(kept.drafts)
            yield number, kept

    def _round(self, rows: Sequence[DraftRow]) -> DraftRound:
        verdicts = self.grader.grade(rows, [row.draft for row in rows])
        drafts, left_out = [], []
        for row, right in zip(rows, verdicts, strict=True):
            if right is None or right:
                message = "it is right by the grader; give a wrong answer, or correct `answer`"
                if right is None:
                    message = "the grader gave no verdict on it; look at the judge's server or the reward function"
                left_out.append(str(RowProblem(row.line, "draft", message)))
                continue
            ids = [*encode_text(self.processor.tokenizer, row.draft), written_end(self.processor)]
            drafts.append(Draft(row.id, row.asked, row, ids, row.draft, row.reference or row.answer))
        unjudged = [right is None for right in verdicts]
        return DraftRound(drafts, {"questions": len({row.asked for row in rows})}, left_out, unjudged)

    def _with_answer(self, row: DraftRow) -> DraftRow | None:
        """The row with the right final answer: its own, or that of its reference."""
        if row.answer:
            return row
        stated = final_answer(row.reference or "")
        if stated is None:
            message = "missing, and the reference states no final answer; give the right final answer"
            self.problems.append(RowProblem(row.line, "answer", message))
            return None
        return replace(row, answer=stated.text)


def _load(recipe: RepairCheckRecipe) -> tuple[Any, Any]:
    policy, processor = load_model(recipe.policy, dtype=recipe.dtype, attention=recipe.attention, whole=True)
    return policy.to(ranks().device), processor
