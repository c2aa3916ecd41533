"""Embedded questions or one's own, and who grades them: the same for every command and host."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from difference_feedback.judges.answers import graded_answers
from difference_feedback.judges.questions import (
    EMBEDDED,
    FINAL_ANSWER,
    Rule,
    draft_questions,
    held_out,
    reward_functions,
    rule_of,
    training_data,
    training_questions,
)
from difference_feedback.runs.recipes import EvaluateRecipe, RepairRLRecipe, RepairSFTRecipe, TrainRecipe
from difference_feedback.runs.sections import Data
from difference_feedback.world import correct_answers, sample_problems


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    Image.new("RGB", (56, 56), "red").save(tmp_path / "a.png")
    rows = [{"id": f"q{i}", "question": f"what is {i} ?", "image": "a.png", "answer": str(i)} for i in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"path": str(tmp_path / "rows.jsonl")}


@pytest.mark.parametrize("kind", [EvaluateRecipe, TrainRecipe, RepairSFTRecipe, RepairRLRecipe])
def test_every_recipe_holds_out_the_same_embedded_problems(kind: Any) -> None:
    questions, grader = held_out(kind.model_validate({"evaluation": {"problems": 9, "seed": 5}}))
    assert questions == sample_problems("test", 9, 5)
    assert grader is EMBEDDED
    if kind in (EvaluateRecipe, TrainRecipe):
        questions, grader = held_out(kind.model_validate({"tasks": ["count"], "reward": "final-answer"}))
        assert {question.task for question in questions} == {"count"}
        assert grader is FINAL_ANSWER


def test_own_questions_are_held_out_only_where_a_test_set_says_so(data: dict[str, str]) -> None:
    assert held_out(TrainRecipe.model_validate({"data": data})) == ([], FINAL_ANSWER)
    assert held_out(RepairRLRecipe.model_validate({"data": data})) == ([], FINAL_ANSWER)
    for recipe in (
        EvaluateRecipe.model_validate({"data": data}),
        TrainRecipe.model_validate({"data": data, "test_data": data}),
        RepairRLRecipe.model_validate({"data": data, "test_data": data}),
    ):
        questions, grader = held_out(recipe)
        assert [question.answer for question in questions] == [*"012345"]
        assert isinstance(grader, Rule)
        assert grader.grade(questions, [f"\\boxed{{{i % 4}}}" for i in range(6)]) == [True] * 4 + [False] * 2


def test_both_hosts_train_on_the_same_questions(data: dict[str, str]) -> None:
    for values in ({"problems": 5, "seed": 3}, {"data": data}):
        recipe = TrainRecipe.model_validate(values)
        dataset, grader = training_data(recipe)
        questions = training_questions(recipe)
        assert list(dataset["answer"]) == [question.answer for question in questions]
        rule = rule_of(recipe.data)
        assert reward_functions(grader) == [rule.reward]
        texts = [f"answer {question.answer}" for question in questions]
        rewards = rule.reward([None] * len(texts), texts, answer=list(dataset["answer"]))
        assert [score == 1 for score in rewards] == rule.grade(questions, texts)


def test_drafts_are_drawn_from_every_question_once_in_the_order_of_the_seed(data: dict[str, str]) -> None:
    first, again, other = (
        [q.answer for q in draft_questions(RepairRLRecipe.model_validate({"data": data, "seed": seed}))]
        for seed in (1, 1, 2)
    )
    assert sorted(first) == [*"012345"]
    assert first == again != other


def test_an_embedded_problem_is_graded_by_either_rule_as_it_says() -> None:
    problems = sample_problems("rl", 12, 0)
    right = [correct_answers(problem)[0] for problem in problems]
    assert EMBEDDED.grade(problems, right) == [True] * 12
    assert rule_of(None, "final-answer").grade(problems, [f"\\boxed{{{p.answer}}}" for p in problems]) == [True] * 12
    assert rule_of(Data(path="x.jsonl")) is FINAL_ANSWER


def test_answers_are_graded_alike_one_by_one_and_together(frozen: tuple[Any, Any]) -> None:
    problems = sample_problems("rl", 4, 1)
    pairs: list[tuple[Any, str]] = []

    def first_letter_is_even(problem: Any, text: str) -> bool:
        pairs.append((problem, text))
        return ord(text[:1] or "a") % 2 == 0

    sampling: dict[str, Any] = {"max_new_tokens": 6, "num_samples": 3, "seed": 2}
    rule = Rule("embedded", first_letter_is_even, EMBEDDED.reward)
    alone, together = (graded_answers(*frozen, problems, grade=grade, **sampling) for grade in (rule.is_right, rule))
    assert alone == together
    assert [problem for problem, _ in pairs] == [problem for problem in problems for _ in range(3)] * 2
    tokenizer = frozen[1].tokenizer
    for answer in (answer for of_problem in alone for answer in of_problem):
        assert answer.text == tokenizer.decode(answer.token_ids, skip_special_tokens=True)
        assert answer.correct == (ord(answer.text[:1] or "a") % 2 == 0)
