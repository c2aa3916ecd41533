"""The oracle: its repairs are right and in the draft's own form, and its masks mark the errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from difference_feedback import world
from difference_feedback.errors import DataError
from difference_feedback.method.alignment import align
from difference_feedback.repair.drafts import oracle_repairs
from difference_feedback.world.nano import build_processor
from difference_feedback.world.oracle import Flaws, error_tokens, flawed_repair, oracle_repair, other_correct_answer

TOKENIZER = build_processor().tokenizer
TASKS = list(world.TASKS)


def misread(problem, rng, errors):
    """An answer in one of the problem's forms: some readings are wrong, and all later values follow from them."""
    form = rng.choice(np.array(world.TASKS[problem.task].forms(problem.facts), dtype=object))
    slots = [form.readings[i] for i in rng.permutation(len(form.readings))[:errors]]
    return form, form.write({slot.name: slot.misreadings[rng.integers(len(slot.misreadings))] for slot in slots})


@settings(max_examples=60)
@given(st.sampled_from(TASKS), st.integers(0, 10_000), st.integers(1, 3))
def test_the_repair_is_correct_and_no_farther_than_the_drafts_own_form(task, seed, errors):
    [problem] = world.sample_problems("rl", 1, seed, [task])
    form, draft = misread(problem, np.random.default_rng(seed), errors)
    repaired = oracle_repair(problem, draft, TOKENIZER)
    assert world.is_correct(problem, repaired)
    assert repaired in world.correct_answers(problem)
    ids, same_form, repaired_ids = (TOKENIZER.encode(text) for text in (draft, form.write(), repaired))
    assert align(ids, repaired_ids).distance <= align(ids, same_form).distance
    others = [TOKENIZER.encode(other) for other in world.correct_answers(problem)]
    assert align(ids, repaired_ids).distance == min(align(ids, other).distance for other in others)


def test_a_correct_answer_is_its_own_repair():
    for problem in world.sample_problems("rl", 24, 0):
        for answer in world.correct_answers(problem):
            assert oracle_repair(problem, f" {answer} ", TOKENIZER) == answer


@pytest.mark.parametrize(("right", "clean"), [(1.0, 1.0), (0.7, 0.5), (0.4, 1.0), (0.0, 0.5)])
def test_flawed_repairs_have_their_shares(right, clean):
    rng = np.random.default_rng(1)
    problems = world.sample_problems("rl", 1200, 1)
    drafts = [misread(problem, rng, 1 + i % 3)[1] for i, problem in enumerate(problems)]
    pairs = [(p, d) for p, d in zip(problems, drafts, strict=True) if not world.is_correct(p, d)]
    repairs = [flawed_repair(p, d, TOKENIZER, Flaws(right, clean, seed=3)) for p, d in pairs]
    ends_right = [world.is_correct(p, r) for (p, _), r in zip(pairs, repairs, strict=True)]
    is_clean = [world.error_spans(p, r) == [] for (p, _), r in zip(pairs, repairs, strict=True)]
    right_and_clean = [a and b for a, b in zip(ends_right, is_clean, strict=True)]
    spread = 4 * 0.5 / len(pairs) ** 0.5
    assert np.mean(ends_right) == pytest.approx(right, abs=spread)
    assert np.mean(right_and_clean) == pytest.approx(right * clean, abs=spread)
    for (problem, draft), repair, ends, cleaned in zip(pairs, repairs, ends_right, is_clean, strict=True):
        assert repair == flawed_repair(problem, draft, TOKENIZER, Flaws(right, clean, seed=3))
        if not ends:
            assert repair == draft
        elif not cleaned:  # one wrong reading, and everything else is right
            assert len(world.error_spans(problem, repair)) == 1


def test_flaws_change_with_the_seed():
    pairs = [(p, misread(p, np.random.default_rng(0), 1)[1]) for p in world.sample_problems("rl", 60, 2)]
    first, second = ([flawed_repair(p, d, TOKENIZER, Flaws(0.5, 0.5, seed)) for p, d in pairs] for seed in (0, 1))
    assert first != second


def test_any_text_is_repaired():
    for problem in world.sample_problems("rl", 6, 0):
        assert world.is_correct(problem, oracle_repair(problem, "", TOKENIZER))
        assert world.is_correct(problem, oracle_repair(problem, "nonsense <|im_end|> \x00 ßß", TOKENIZER))


def test_the_oracle_masks_cover_the_errors():
    """After one misreading, nearly every wrong value has a marked token; ties in the alignment may move a mark."""
    rng = np.random.default_rng(0)
    spans, covered = 0, 0
    for problem in world.sample_problems("rl", 240, 0):
        _, draft = misread(problem, rng, 1)
        ids = TOKENIZER.encode(draft)
        mask = align(ids, TOKENIZER.encode(oracle_repair(problem, draft, TOKENIZER))).source_mask
        wrong = error_tokens(problem, ids, TOKENIZER)
        assert wrong is not None
        runs = np.split(np.flatnonzero(wrong), np.flatnonzero(np.diff(np.flatnonzero(wrong)) > 1) + 1)
        for run in runs:
            spans += len(run) > 0
            covered += len(run) > 0 and bool(mask[run].any())
    assert spans > 200
    assert covered / spans > 0.95


def test_other_correct_answers_take_every_form():
    [problem] = world.sample_problems("rl", 1, 0, ["digits-sum"])
    rng = np.random.default_rng(0)
    assert {other_correct_answer(problem, rng) for _ in range(100)} == set(world.correct_answers(problem))


def test_oracle_repairs_comes_from_the_policys_wrong_answers(frozen):
    rows = oracle_repairs(*frozen, 70, max_new_tokens=6, seed=3, progress=None)
    assert len(rows) == 70
    assert len({row.id for row in rows}) == 70
    assert len({row.draft for row in rows}) > 35  # sampled, not written
    problems = {(p.question, p.images[0].tobytes()): p for p in world.sample_problems("repair", 200, 3)}
    for row in rows:
        problem = problems[row.question, row.images[0].tobytes()]
        assert not world.is_correct(problem, row.draft)
        assert row.repaired == oracle_repair(problem, row.draft, TOKENIZER)
        assert row.reference in world.correct_answers(problem)
    again = oracle_repairs(*frozen, 70, max_new_tokens=6, seed=3, progress=None)
    assert [(r.question, r.draft, r.reference) for r in again] == [(r.question, r.draft, r.reference) for r in rows]


def test_too_few_wrong_answers_are_an_error(frozen):
    with pytest.raises(DataError, match=r"64 answers .* \d+ wrong .*65.*fewer"):
        oracle_repairs(*frozen, 65, max_new_tokens=2, max_rollouts=64, progress=None)
