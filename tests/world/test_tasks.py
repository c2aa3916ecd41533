"""The embedded tasks: right answers are right, wrong values are found, images of the splits are disjoint."""

import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difference_feedback import world
from difference_feedback.errors import ConfigError
from difference_feedback.world import TASKS, ErrorSpan, Problem
from difference_feedback.world.forms import Form, copy, reading, total
from difference_feedback.world.problem import SPLITS
from difference_feedback.world.scans import scans

SUM = Form((reading("a", 3), "plus", reading("b", 4), "is", total("s", "a", "b"), ".", "answer", copy("answer", "s")))

problems = st.builds(
    lambda task, seed: world.sample_problems("rl", 1, seed, [task])[0],
    st.sampled_from(sorted(TASKS)),
    st.integers(0, 10_000),
)


def test_a_form_writes_the_right_answer():
    assert SUM.write() == "3 plus 4 is 7 . answer 7"


def test_a_misreading_carries_through_what_follows_from_it():
    assert SUM.write({"b": "9"}) == "3 plus 9 is 12 . answer 12"


@pytest.mark.parametrize(
    ("response", "spans"),
    [
        ("3 plus 4 is 7 . answer 7", []),
        # The misread 9 is the root; the sum and the answer follow from it.
        ("3 plus 9 is 12 . answer 12", [(7, 8, True), (12, 14, False), (24, 26, False)]),
        # A slip of arithmetic on right readings.
        ("3 plus 4 is 8 . answer 8", [(12, 13, True), (23, 24, False)]),
        # Two errors that cancel leave a right sum, which is therefore no error.
        ("2 plus 5 is 7 . answer 7", [(0, 1, True), (7, 8, True)]),
        # A copy that departs from what it copies.
        ("3 plus 4 is 7 . answer 9", [(23, 24, True)]),
        # A word where a number belongs: nothing follows from it, so what comes after is an error of its own.
        ("3 plus x is 5 . answer 5", [(7, 8, True), (12, 13, True), (23, 24, False)]),
    ],
)
def test_error_spans_tell_roots_from_what_follows(response, spans):
    assert SUM.error_spans(response) == [ErrorSpan(*span) for span in spans]


@pytest.mark.parametrize("response", ["", "seven", "3 plus 4 is 7", "3 plus 4 is 7 . answer 7 .", "3  plus 4 is 7 ."])
def test_what_is_not_in_the_form_has_no_spans(response):
    assert SUM.error_spans(response) is None


@settings(max_examples=60)
@given(problem=problems)
def test_every_surface_form_is_correct_and_free_of_errors(problem: Problem):
    answers = world.correct_answers(problem)
    assert len(answers) >= 2
    for answer in answers:
        assert world.is_correct(problem, answer)
        assert world.error_spans(problem, answer) == []


@settings(max_examples=60)
@given(problem=problems, data=st.data())
def test_a_misreading_is_found_where_it_stands(problem: Problem, data: st.DataObject):
    form = data.draw(st.sampled_from(TASKS[problem.task].forms(problem.facts)))
    slot = data.draw(st.sampled_from(form.readings))
    wrong = data.draw(st.sampled_from(slot.misreadings))
    assert wrong != slot.value({})
    response = form.write({slot.name: wrong})
    spans = form.error_spans(response)
    roots = [span for span in spans if span.root]
    assert [response[span.start : span.end] for span in roots] == [wrong]
    assert all(span.start >= roots[0].start for span in spans)


def test_the_same_seed_gives_the_same_problems():
    first, second = (world.sample_problems("rl", 12, seed=3) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert (a.question, a.answer, a.facts) == (b.question, b.answer, b.facts)
        assert np.array_equal(np.asarray(a.images[0]), np.asarray(b.images[0]))
    assert [p.facts for p in world.sample_problems("rl", 12, seed=4)] != [p.facts for p in first]


def test_no_scan_is_in_two_splits_and_none_is_lost():
    keys = [{scan.tobytes() for digits in scans(split) for scan in digits} for split in SPLITS]
    sizes = {split: sum(map(len, scans(split))) for split in SPLITS}
    assert sum(sizes.values()) == 1797
    assert (sizes["warm"], sizes["repair"], sizes["test"]) == (80, 160, 550)
    assert all(not a & b for a, b in combinations(keys, 2))


@pytest.mark.parametrize("task", ["count", "chart"])
def test_rendered_images_of_the_splits_are_disjoint(task):
    images = [{p.images[0].tobytes() for p in world.sample_problems(split, 150, 0, [task])} for split in SPLITS]
    assert all(not a & b for a, b in combinations(images, 2))


def test_images_and_prompts_vary_in_size():
    problems = world.sample_problems("rl", 60, seed=0)
    assert len({p.images[0].size for p in problems}) > 5
    assert len({len(p.question.split()) for p in problems}) > 3


def test_rows_hold_all_that_a_problem_needs():
    problems = world.sample_problems("test", 6, seed=1)
    for problem, row in zip(problems, world.to_dataset(problems), strict=True):
        again = world.from_row(row)
        assert again.facts == json.loads(json.dumps(problem.facts))
        assert world.correct_answers(again) == world.correct_answers(problem)
        assert again.images[0].tobytes() == problem.images[0].tobytes()


def test_the_reward_looks_at_the_final_answer_alone():
    problems = world.sample_problems("rl", 6, seed=2)
    right = [world.correct_answers(p)[0] for p in problems]
    answers = [p.answer for p in problems]
    chat = [[{"role": "assistant", "content": text}] for text in right]
    assert world.correctness_reward(answers, chat, answer=answers) == [1.0] * 6
    assert world.correctness_reward(answers, right, answer=answers) == [1.0] * 6
    assert world.correctness_reward(["?"], ["no verdict here"], answer=["7"]) == [0.0]
    assert world.correctness_reward(["?"], ["answer 7 . answer 8"], answer=["7"]) == [0.0]
    assert world.correctness_reward(["?"], ["3 plus 4 is 12 . answer 7"], answer=["7"]) == [1.0]


def test_an_unknown_task_or_split_is_refused():
    with pytest.raises(ConfigError, match="digit-sum"):
        world.sample_problems("rl", 1, 0, ["digit-sum"])
    with pytest.raises(ConfigError, match="train"):
        world.sample_problems("train", 1, 0)  # type: ignore[arg-type]
