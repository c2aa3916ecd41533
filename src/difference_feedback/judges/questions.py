"""What a recipe asks, the embedded problems or your own questions, and who grades the answers."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from datasets import Dataset

from difference_feedback import world
from difference_feedback.data.dataset import LoadedData, load_data
from difference_feedback.data.question import Question
from difference_feedback.data.question_rows import for_rewards
from difference_feedback.errors import DataError
from difference_feedback.judges.benchmark_rules import JUDGE_RULES, benchmark_reward, grade_by, row_of
from difference_feedback.judges.llm_judge import LLMJudge
from difference_feedback.judges.own_reward import load_reward
from difference_feedback.judges.reward_sum import RewardFunction, RewardSum
from difference_feedback.judges.rules import final_answer_reward, matches
from difference_feedback.models.fitting import Room, fitting, room_for_prompts
from difference_feedback.models.outside_text import encode_text
from difference_feedback.models.processor import load_processor
from difference_feedback.models.prompt_lengths import PromptLengths, sizes_of
from difference_feedback.runs.prompts import PromptForm, prompt_form
from difference_feedback.runs.recipes import (
    EvaluateRecipe,
    ModelRecipe,
    QuestionRecipe,
    RepairRLRecipe,
    RepairSFTRecipe,
    TrainRecipe,
)
from difference_feedback.runs.rewards import BENCHMARKS, JUDGED, is_summed, own_function, rewards_of, threshold_of
from difference_feedback.runs.sections import Data
from difference_feedback.world.mixture import grader_columns, stream_problems

Grade = Callable[[Any, str], bool | None]
"""`(question, response)`: whether the response is right; None: unjudged."""
Q = TypeVar("Q")


@dataclass(frozen=True)
class Rule:
    """A grader that decides at once, one response at a time; `reward` is the same rule as TRL calls it."""

    name: str
    is_right: Grade
    reward: RewardFunction

    def grade(self, questions: Sequence[Any], responses: Sequence[str]) -> list[bool | None]:
        """Verdicts, as `LLMJudge.grade` gives them."""
        return [bool(self.is_right(*row)) for row in zip(questions, responses, strict=True)]


def _matches_question(question: Any, response: str) -> bool:
    return matches(response, question.answer, getattr(question, "options", None))


EMBEDDED = Rule("embedded", world.is_correct, world.correctness_reward)
FINAL_ANSWER = Rule("final-answer", _matches_question, final_answer_reward)


Grader = Rule | LLMJudge | RewardSum


def benchmark_rule(name: str) -> Rule:
    """A benchmark's own answer rule."""

    def is_right(question: Any, response: str) -> bool:
        row = row_of(question.answer, getattr(question, "options", None), getattr(question, "columns", None))
        return grade_by(name, response, row).correct

    return Rule(name, is_right, benchmark_reward(name))


def rule_named(name: str) -> Rule:
    """The rule of that name."""
    if name in BENCHMARKS:
        return benchmark_rule(name)
    return EMBEDDED if name == EMBEDDED.name else FINAL_ANSWER


def rule_of(data: Data | None, reward: str | None = None) -> Rule:
    """The rule that grades answers to `data`, or to the embedded problems where it is None."""
    return rule_named(reward or (EMBEDDED if data is None else FINAL_ANSWER).name)


def grader_of(recipe: QuestionRecipe) -> Grader:
    """Who grades, as a recipe says it. `runs.check` has seen to it that `llm-judge` comes with its `judge`."""
    names = rewards_of(recipe)
    if is_summed(recipe):
        functions = tuple(_reward_function(name, recipe) for name in names)
        titles = Counter(function.__name__ for function in functions)
        for name, function in zip(names, functions, strict=True):
            if (place := own_function(name)) and titles[place.function] > 1:
                function.__name__ = f"{place.path.stem}.{place.function}"  # TRL logs by it
        return RewardSum(functions, tuple(names.values()), threshold_of(recipe), columns_of, _encoder(recipe))
    return _built_in(next(iter(names)), recipe)


def rule_grader_of(recipe: RepairRLRecipe) -> Rule | RewardSum:
    """`grader_of` for a recipe that names no judge."""
    grader = grader_of(recipe)
    assert not isinstance(grader, LLMJudge)
    return grader


def reward_functions(grader: Grader) -> list[RewardFunction]:
    """The functions that a trainer of TRL gets; their weights are in its configuration."""
    return list(grader.functions) if isinstance(grader, RewardSum) else [grader.reward]


def columns_of(question: Question) -> dict[str, Any]:
    """What the row of a question has beside its prompt: what reward functions read. `columns` has the file's own."""
    if isinstance(question, world.Problem):
        return {"images": list(question.images)} | grader_columns(question)
    own = getattr(question, "columns", {})
    name, options = getattr(question, "id", ""), list(getattr(question, "options", ()))
    fields = {"images": question.images, "answer": question.answer, "task": question.task}
    return for_rewards(own) | fields | {"id": name, "options": options, "columns": dict(own)}


def training_problems(recipe: TrainRecipe) -> list[world.Problem]:
    """The embedded problems that a policy is trained on, where the recipe names no `data`."""
    problems = world.sample_problems("rl", recipe.problems, recipe.seed, recipe.tasks)
    return list(_in_form(recipe, problems))


def training_questions(recipe: TrainRecipe) -> Sequence[Question]:
    """The questions that a policy is trained on."""
    return _training_rows(recipe).questions() if recipe.data else training_problems(recipe)


def training_data(recipe: TrainRecipe) -> tuple[Dataset, Grader]:
    """`training_questions` as TRL's trainers read them, and the grader of answers to them."""
    dataset = _training_rows(recipe).for_training() if recipe.data else world.to_dataset(training_problems(recipe))
    return dataset, grader_of(recipe)


def labelled_problems(recipe: RepairSFTRecipe) -> Iterator[world.Problem]:
    """The embedded problems whose wrong answers the oracle repairs."""
    return _in_form(recipe, stream_problems("repair", recipe.seed))


def draft_questions(recipe: RepairRLRecipe | EvaluateRecipe) -> Iterator[Question]:
    """The questions to draw wrong answers from, in random order: for a repair model's training, or to measure one."""
    if recipe.data is None:
        measured = isinstance(recipe, EvaluateRecipe)  # on images that no model is trained on
        tasks = recipe.tasks if isinstance(recipe, EvaluateRecipe) else None
        return _in_form(recipe, stream_problems("test" if measured else "rl", recipe.seed, tasks))
    questions = _fitting_rows(recipe, recipe.data, recipe.evaluation.max_new_tokens).questions()
    order = np.random.default_rng(recipe.seed).permutation(len(questions))
    return (questions[i] for i in order)


def held_out(
    recipe: EvaluateRecipe | TrainRecipe | RepairSFTRecipe | RepairRLRecipe,
) -> tuple[Sequence[Question], Grader]:
    """Held-out questions and their grader.

    They are `test_data` (of an evaluation, `data`), or embedded problems. A recipe that trains on your own data and
    names no `test_data` has none.
    """
    settings = recipe.evaluation
    grader: Grader = EMBEDDED if isinstance(recipe, RepairSFTRecipe) else grader_of(recipe)
    if isinstance(recipe, QuestionRecipe):
        data = recipe.data if isinstance(recipe, EvaluateRecipe) else recipe.test_data
        if data is not None:
            rows = _fitting_rows(recipe, data, settings.max_new_tokens)
            grader = grader_of(recipe.model_copy(update={"data": data}))
            return rows.select(_drawn(len(rows.lines), settings.problems, settings.seed)).questions(), grader
        if recipe.data is not None:
            return [], grader
    tasks = getattr(recipe, "tasks", None)
    problems = world.sample_problems(settings.split, settings.embedded_problems, settings.seed, tasks)
    return list(_in_form(recipe, problems)), grader


def part_of(questions: Sequence[Q], size: int | None, seed: int) -> Sequence[Q]:
    """`size` of held-out questions, for the measurements before the last one.

    Embedded problems come from the tasks in turn, so that the first ones will do. Of others, a part is drawn.
    """
    if size is None or all(isinstance(question, world.Problem) for question in questions):
        return questions[:size]
    return [questions[i] for i in _drawn(len(questions), size, seed)]


def _drawn(count: int, size: int | None, seed: int) -> list[int]:
    """`size` of `count` places, drawn at random and in order; all without a size."""
    if size is None or size >= count:
        return list(range(count))
    return sorted(np.random.default_rng(seed).permutation(count)[:size].tolist())


def _training_rows(recipe: TrainRecipe) -> LoadedData:
    assert recipe.data is not None
    return _fitting_rows(recipe, recipe.data, _answer_length(recipe))


def _answer_length(recipe: TrainRecipe) -> int:
    return int(recipe.trl.get("max_completion_length") or 256)


def _fitting_rows(recipe: QuestionRecipe, data: Data, answer: int) -> LoadedData:
    """The rows of a data set whose prompts leave room for `answer` tokens."""
    loaded = load_data(data, form=prompt_form(recipe.system_prompt, recipe.format_prompt))
    lengths = PromptLengths(load_processor(recipe.model), recipe.model).count(loaded.prompts, loaded.sizes)
    places = [f"line {line}" for line in loaded.lines]
    return loaded.select(fitting(data.path, lengths, places, _room(recipe, answer)))


def _room(recipe: QuestionRecipe, answer: int) -> Room:
    if isinstance(recipe, TrainRecipe) and recipe.host == "verl" and recipe.max_prompt_length is None:
        longest = recipe.verl_settings.get("data.max_prompt_length") or 512  # verl's default
        return room_for_prompts(recipe.model, answer, longest, "verl.data.max_prompt_length")
    return room_for_prompts(recipe.model, answer, recipe.max_prompt_length)


def _in_form(recipe: ModelRecipe, problems: Iterable[world.Problem]) -> Iterator[world.Problem]:
    """Embedded problems with the recipe's own texts around them. Only `max_prompt_length` limits their length."""
    form = prompt_form(recipe.system_prompt, getattr(recipe, "format_prompt", None))
    longest = getattr(recipe, "max_prompt_length", None)
    if form == PromptForm() and longest is None:
        yield from problems
        return
    lengths = PromptLengths(load_processor(recipe.model), recipe.model)
    stream = (replace(p, question=form.question(p.question), system=form.system) for p in problems)
    while batch := list(islice(stream, 256)):
        counted = lengths.count([p.prompt for p in batch], sizes_of(batch))
        fit = [p for p, length in zip(batch, counted, strict=True) if longest is None or length <= longest]
        if not fit:
            raise DataError(
                f"max_prompt_length: {longest} is less than the shortest prompt has, {min(counted)} tokens."
            )
        yield from fit


def _built_in(name: str, recipe: QuestionRecipe) -> Rule | LLMJudge:
    judge = getattr(recipe, "judge", None)
    if judge is None or name not in JUDGED:
        return rule_of(recipe.data, name)
    return LLMJudge(judge, rules=JUDGE_RULES.get(name, ""))


def _reward_function(name: str, recipe: QuestionRecipe) -> RewardFunction:
    function = own_function(name)
    return _built_in(name, recipe).reward if function is None else load_reward(function)


def _encoder(recipe: QuestionRecipe) -> Callable[[str], list[int]]:
    """The tokens of a text by the recipe's model, whose processor is loaded when it is first asked."""

    def encode(text: str) -> list[int]:
        return encode_text(load_processor(recipe.model).tokenizer, text)

    return encode
