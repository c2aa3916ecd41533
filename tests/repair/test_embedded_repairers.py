"""Repairers that know the truth: the oracle and the reference."""

import pytest

from difference_feedback.errors import DataError
from difference_feedback.method.repairs import RepairRequest
from difference_feedback.repair.embedded import embedded_repairer
from difference_feedback.world import correct_answers, is_correct, sample_problems
from difference_feedback.world.mixture import TASKS
from difference_feedback.world.nano import load_base
from difference_feedback.world.oracle import oracle_repair


@pytest.fixture(scope="module")
def tokenizer():
    return load_base()[1].tokenizer


def wrong_answer(problem, i):
    form = TASKS[problem.task].forms(problem.facts)[i % 4]
    slot = form.readings[0]
    return form.write({slot.name: slot.misreadings[0]})


def request(problem, i, tokenizer, ended=True):
    ids = tokenizer.encode(wrong_answer(problem, i), add_special_tokens=False) + [tokenizer.eos_token_id] * ended
    return RepairRequest(problem.prompt, list(problem.images), ids, correct_answers(problem)[-1])


def test_the_oracle_repairs_every_problem_that_it_was_given(tokenizer):
    problems = sample_problems("rl", 24, seed=3)
    repairer = embedded_repairer("oracle", tokenizer, problems)
    requests = [request(problem, i, tokenizer) for i, problem in enumerate(problems)]
    for i, (problem, (repair,)) in enumerate(zip(problems, repairer.repair(requests, 2), strict=True)):
        assert repair.text == oracle_repair(problem, wrong_answer(problem, i), tokenizer)
        assert is_correct(problem, tokenizer.decode(repair.token_ids, skip_special_tokens=True))
        assert repair.token_ids[-1] == tokenizer.eos_token_id


def test_an_answer_that_was_cut_off_is_repaired_without_an_end(tokenizer):
    problem = sample_problems("rl", 1, seed=3)[0]
    repairer = embedded_repairer("oracle", tokenizer, [problem])
    (repair,) = repairer.repair([request(problem, 0, tokenizer, ended=False)])[0]
    assert tokenizer.eos_token_id not in repair.token_ids


def test_the_reference_takes_the_repair_s_place(tokenizer):
    problem = sample_problems("rl", 1, seed=3)[0]
    requests = request(problem, 0, tokenizer)
    (repair,) = embedded_repairer("reference", tokenizer, None).repair([requests])[0]
    assert repair.text == requests.reference
    with pytest.raises(DataError, match="reference"):
        embedded_repairer("reference", tokenizer, None).repair(
            [RepairRequest(problem.prompt, list(problem.images), [1, 2], None)]
        )


def test_the_oracle_knows_embedded_problems_alone(tokenizer):
    known, other = sample_problems("rl", 2, seed=3)
    for problems in ([], [known]):
        with pytest.raises(DataError, match="oracle"):
            embedded_repairer("oracle", tokenizer, problems).repair([request(other, 0, tokenizer)])
