"""What a recipe asks, the embedded problems or your own questions, and who grades the answers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from difference_feedback import world
from difference_feedback.data.dataset import load_data
from difference_feedback.data.question import Question
from difference_feedback.judges.llm_judge import LLMJudge
from difference_feedback.judges.rules import final_answer_reward, matches
from difference_feedback.runs.recipes import EvaluateRecipe, RepairRLRecipe, RepairSFTRecipe, TrainRecipe
from difference_feedback.runs.sections import Data, Judge, Reward
from difference_feedback.world.mixture import stream_problems

Grade = Callable[[Any, str], bool]
"""`(question, response)`: whether the response is right."""
RewardFunction = Callable[..., Sequence[float | None]]
"""As TRL calls it."""


@dataclass(frozen=True)
class Rule:
    """A grader that decides at once, one response at a time; `reward` is the same rule as TRL calls it."""

    name: Reward
    is_right: Grade
    reward: RewardFunction

    def grade(self, questions: Sequence[Any], responses: Sequence[str]) -> list[bool | None]:
        """Verdicts, as `LLMJudge.grade` gives them."""
        return [bool(self.is_right(*row)) for row in zip(questions, responses, strict=True)]


def _matches_question(question: Any, response: str) -> bool:
    return matches(response, question.answer, getattr(question, "options", None))


EMBEDDED = Rule("embedded", world.is_correct, world.correctness_reward)
FINAL_ANSWER = Rule("final-answer", _matches_question, final_answer_reward)


Grader = Rule | LLMJudge


def rule_of(data: Data | None, reward: Reward | None = None) -> Rule:
    """The rule that grades answers to `data`, or to the embedded problems where it is None."""
    return EMBEDDED if data is None and reward != "final-answer" else FINAL_ANSWER


def grader_of(data: Data | None, reward: Reward | None, judge: Judge | None) -> Grader:
    """Who grades, as a recipe says it. `runs.check` has seen to it that `llm-judge` comes with its `judge`."""
    if reward != "llm-judge":
        return rule_of(data, reward)
    assert judge is not None
    return LLMJudge(judge)


def training_problems(recipe: TrainRecipe) -> list[world.Problem]:
    """The embedded problems that a policy is trained on, where the recipe names no `data`."""
    return world.sample_problems("rl", recipe.problems, recipe.seed, recipe.tasks)


def training_questions(recipe: TrainRecipe) -> Sequence[Question]:
    """The questions that a policy is trained on."""
    return load_data(recipe.data).questions() if recipe.data else training_problems(recipe)


def training_data(recipe: TrainRecipe) -> tuple[Dataset, RewardFunction]:
    """`training_questions` as TRL's trainers read them, and the grader of answers to them."""
    dataset = load_data(recipe.data).for_training() if recipe.data else world.to_dataset(training_problems(recipe))
    return dataset, grader_of(recipe.data, recipe.reward, recipe.judge).reward


def draft_questions(recipe: RepairRLRecipe) -> tuple[Iterator[Question], Rule]:
    """The questions to draw wrong answers from for a repair model's training, in random order, and their rule."""
    if recipe.data is None:
        return stream_problems("rl", recipe.seed), EMBEDDED
    questions = load_data(recipe.data).questions()
    order = np.random.default_rng(recipe.seed).permutation(len(questions))
    return (questions[i] for i in order), rule_of(recipe.data)


def held_out(
    recipe: EvaluateRecipe | TrainRecipe | RepairSFTRecipe | RepairRLRecipe,
) -> tuple[Sequence[Question], Grader]:
    """Held-out questions and their grader.

    They are `test_data` (of an evaluation, `data`), or embedded problems. A recipe that trains on your own data and
    names no `test_data` has none.
    """
    tasks, reward, judge, trained_on, data = (
        getattr(recipe, key, None) for key in ("tasks", "reward", "judge", "data", "test_data")
    )
    if isinstance(recipe, EvaluateRecipe):
        data, trained_on = recipe.data, None
    if data is not None:
        return load_data(data).questions(), grader_of(data, reward, judge)
    if trained_on is not None:
        return [], FINAL_ANSWER
    settings = recipe.evaluation
    problems = world.sample_problems(settings.split, settings.problems, settings.seed, tasks)
    return problems, grader_of(None, reward, judge)
