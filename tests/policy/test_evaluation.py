"""Evaluation: intervals against exact ones, batches that change nothing, and a model that is left as it was."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from difference_feedback.judges.intervals import wilson_interval
from difference_feedback.policy.evaluation import Evaluation, Prediction, evaluate
from difference_feedback.world import Problem, sample_problems
from difference_feedback.world.nano import build, load_base


@pytest.fixture(scope="module")
def nano() -> tuple:
    return build(seed=0)


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return sample_problems("test", 7, seed=1)


def test_wilson_s_interval_is_that_of_published_tables() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), Table I, method 3.
    for successes, trials, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=6e-5)
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 2000), st.data())
def test_wilson_s_interval_holds_the_share_and_lies_in_0_to_1(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    low, high = wilson_interval(successes, trials)
    assert 0.0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1.0


def test_the_size_of_batches_changes_no_greedy_answer(nano: tuple, problems: list[Problem]) -> None:
    single, all_at_once = (evaluate(*nano, problems, batch_size=size, max_new_tokens=12) for size in (1, 7))
    assert [p.response for p in single.predictions] == [p.response for p in all_at_once.predictions]
    assert [p.question for p in single.predictions] == [p.question for p in problems]
    assert {task: len(result) for task, result in single.by_task.items()}["digits-sum"] == 2


def test_sampling_is_seeded_and_leaves_model_and_random_state_as_they_were(
    nano: tuple, problems: list[Problem]
) -> None:
    model, processor = nano
    model.train()
    before = torch.get_rng_state()
    settings = {"max_new_tokens": 8, "temperature": 1.0}
    first, second = (evaluate(model, processor, problems, seed=3, **settings) for _ in range(2))
    other = evaluate(model, processor, problems, seed=4, **settings)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert [p.response for p in first.predictions] == [p.response for p in second.predictions]
    assert [p.response for p in first.predictions] != [p.response for p in other.predictions]


def test_answers_without_their_end_are_counted_and_many_are_reported(
    problems: list[Problem], capsys: pytest.CaptureFixture[str]
) -> None:
    whole, short = (evaluate(*load_base(), problems, max_new_tokens=length) for length in (64, 4))
    assert whole.summary()["cut_off"] == 0
    assert short.summary()["cut_off"] == len(problems)
    printed = capsys.readouterr().err
    assert printed.count("cut off") == 1
    assert f"{len(problems)} of {len(problems)}" in printed
    assert "evaluation.max_new_tokens" in printed


def test_the_rule_that_grades_gets_question_and_answer(nano: tuple, problems: list[Problem]) -> None:
    graded = []

    def grade(problem: Problem, response: str) -> bool:
        graded.append((problem, response))
        return problem.task == "count"

    result = evaluate(*nano, problems, grade=grade, max_new_tokens=4)
    assert [problem for problem, _ in graded] == problems
    assert result.summary()["tasks"]["count"] == 1.0
    assert result.accuracy == pytest.approx(1 / 7)


def test_a_summary_and_its_predictions_file(tmp_path: Path) -> None:
    found = Prediction("b", "q", "1", "So it is 2. \\boxed{1}", True, "17", cut_off=False)
    result = Evaluation([found, Prediction("a", "q", "1", "é", False, cut_off=True)], 1.5)
    assert result.summary() | {"interval": None, "task_intervals": None} == {
        "accuracy": 0.5,
        "interval": None,
        "problems": 2,
        "unjudged": 0,
        "cut_off": 1,
        "tasks": {"a": 0.0, "b": 1.0},
        "task_intervals": None,
    }
    result.write_predictions(tmp_path / "p.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [row["response"] for row in rows] == [found.response, "é"]
    assert [row["id"] for row in rows] == ["17", "2"], "the place in the file, where a question has no id"
    assert rows[0]["extracted"] == "1"
    assert np.isfinite(result.interval).all()


def test_no_questions_is_an_error(nano: tuple) -> None:
    with pytest.raises(ValueError, match="questions is empty"):
        evaluate(*nano, [])


def test_unjudged_answers_do_not_count_and_are_reported(nano: tuple, problems: list[Problem]) -> None:
    class Judge:
        def grade(self, questions, responses):
            return [None, True, False, None, True, True, True][: len(responses)]

    result = evaluate(*nano, problems, grade=Judge(), max_new_tokens=4)
    summary = result.summary()
    assert (summary["accuracy"], summary["problems"], summary["unjudged"]) == (0.8, 5, 2)
    assert summary["interval"] == list(wilson_interval(4, 5))
    assert sum(len(of_task) for of_task in result.by_task.values()) == 5
