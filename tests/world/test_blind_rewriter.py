"""The blind rewriter: it ends as its reference does, copies as little as possible, and does not know the truth."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from difference_feedback import world
from difference_feedback.errors import DataError
from difference_feedback.method.repairs import RepairRequest
from difference_feedback.repair.embedded import embedded_repairer
from difference_feedback.world import Problem
from difference_feedback.world.blind_rewriter import rewrite_blind
from difference_feedback.world.nano import build_processor

TOKENIZER = build_processor().tokenizer
TASKS = list(world.TASKS)


def problem_of(task, facts, answer=""):
    return Problem(task, "rl", "?", (), answer, facts)


@pytest.mark.parametrize(
    ("task", "facts", "draft", "reference", "repaired"),
    [
        (  # one misread digit, and what follows from it
            "digits-sum",
            {"digits": [3, 6, 9]},
            "3 plus 5 is 8 , plus 9 is 17 . answer 17",
            "start 9 , add 6 makes 15 , add 3 makes 18 . answer 18",
            "3 plus 6 is 9 , plus 9 is 18 . answer 18",
        ),
        (  # every digit right, and a slip: nothing is carried over
            "digits-sum",
            {"digits": [3, 6, 9]},
            "3 plus 6 is 8 , plus 9 is 17 . answer 17",
            "start 9 , add 6 makes 15 , add 3 makes 18 . answer 18",
            "3 plus 6 is 9 , plus 9 is 18 . answer 18",
        ),
        (  # the 8 made it wrong; the other misread digits do no harm and stay
            "digits-max",
            {"digits": [3, 1, 4, 2]},
            "see 3 keep 3 , see 2 keep 3 , see 4 keep 4 , see 8 keep 8 . answer 8",
            "then 2 best 2 , then 4 best 4 , then 1 best 4 , then 3 best 4 . answer 4",
            "see 3 keep 3 , see 2 keep 3 , see 4 keep 4 , see 2 keep 4 . answer 4",
        ),
        (  # the reference reads the column, the draft the row: they share one cell
            "grid-lookup",
            {"grid": [[7, 5], [3, 8]], "row": 0, "column": 0},
            "row 1 reads 8 5 . column 1 has 8 . answer 8",
            "column 1 reads 7 2 . row 1 has 7 . answer 7",
            "row 1 reads 7 5 . column 1 has 7 . answer 7",
        ),
        (
            "chart",
            {"bars": {"blue": 1, "red": 6}, "high": "red", "low": "blue"},
            "blue is 2 . red is 6 . 6 minus 2 is 4 . answer 4",
            "the red bar reaches 6 , blue 1 . 6 minus 1 is 5 . answer 5",
            "blue is 1 . red is 6 . 6 minus 1 is 5 . answer 5",
        ),
        (  # the reference is right by luck: its wrong value is carried over, since nobody here knows better
            "digits-sum",
            {"digits": [3, 6, 9]},
            "3 plus 5 is 8 , plus 9 is 17 . answer 17",
            "4 plus 5 is 9 , plus 9 is 18 . answer 18",
            "4 plus 5 is 9 , plus 9 is 18 . answer 18",
        ),
    ],
)
def test_literal_repairs(task, facts, draft, reference, repaired):
    assert rewrite_blind(problem_of(task, facts), draft, reference, TOKENIZER) == repaired


@given(st.sampled_from(TASKS), st.integers(0, 10_000), st.integers(1, 3))
def test_it_repairs_with_no_more_readings_than_were_wrong_and_without_the_truth(task, seed, errors):
    [problem] = world.sample_problems("rl", 1, seed, [task])
    rng = np.random.default_rng(seed)
    form = rng.choice(np.array(world.TASKS[task].forms(problem.facts), dtype=object))
    slots = [form.readings[i] for i in rng.permutation(len(form.readings))[:errors]]
    draft = form.write({slot.name: slot.misreadings[rng.integers(len(slot.misreadings))] for slot in slots})
    for reference in world.correct_answers(problem):
        repaired = rewrite_blind(problem, draft, reference, TOKENIZER)
        # A grid's row and column share one cell: a reference by the other way may have too little to give.
        assert repaired is not None or task == "grid-lookup"
        if repaired is None:
            continue
        assert world.is_correct(problem, repaired)
        before, new = form.stated(draft), form.stated(repaired)
        assert sum(before[slot.name] != new[slot.name] for slot in form.readings) <= len(slots)
        blind = dataclasses.replace(problem, facts=world.TASKS[task].unseen(problem.facts), answer="", images=())
        assert rewrite_blind(blind, draft, reference, TOKENIZER) == repaired


def test_answers_without_a_known_form_or_a_right_end_are_not_repaired():
    problem = problem_of("digits-sum", {"digits": [3, 6, 9]})
    good = "3 plus 6 is 9 , plus 9 is 18 . answer 18"
    assert rewrite_blind(problem, "no idea", good, TOKENIZER) is None
    assert rewrite_blind(problem, good, "answer 18", TOKENIZER) is None
    slip = "3 plus 5 is 9 , plus 9 is 18 . answer 18"  # right by a slip: its readings make 17
    assert rewrite_blind(problem, "3 plus 5 is 8 , plus 8 is 16 . answer 16", slip, TOKENIZER) is None


def test_as_a_repairer_it_gives_one_candidate_or_none():
    [problem] = world.sample_problems("rl", 1, 0, ["digits-sum"])
    repairer = embedded_repairer("blind_rewriter", TOKENIZER, [problem])
    form = world.TASKS[problem.task].forms(problem.facts)[0]
    draft = form.write({form.readings[0].name: form.readings[0].misreadings[0]})
    reference = world.correct_answers(problem)[1]

    def request(text, shown=reference):
        ids = [*TOKENIZER.encode(text), TOKENIZER.eos_token_id]
        return RepairRequest(problem.prompt, list(problem.images), ids, shown)

    (result,), none = repairer.repair([request(draft), request("no idea")], num_samples=2)
    assert result.text == form.write()
    assert result.token_ids == [*TOKENIZER.encode(form.write()), TOKENIZER.eos_token_id]
    assert none == []
    with pytest.raises(DataError, match="reference"):
        repairer.repair([request(draft, None)])
