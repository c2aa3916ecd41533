"""Verdicts on repairs with known faults."""

import numpy as np
import pytest

from difference_feedback import world
from difference_feedback.judges.audit import AuditCase
from difference_feedback.judges.embedded_auditor import EmbeddedAuditor, changed_words, wrong_words
from difference_feedback.world.nano import build_processor
from difference_feedback.world.oracle import oracle_repair

TOKENIZER = build_processor().tokenizer


def audit(problem, draft, repair, reference=None):
    case = AuditCase(problem.question, problem.images, draft, repair, reference, problem)
    [result] = EmbeddedAuditor().audit([case])
    return result


def misread(problem, form=0):
    """An answer in one of the problem's forms with its first reading wrong, and right in another form."""
    forms = world.TASKS[problem.task].forms(problem.facts)
    slot = forms[form].readings[0]
    return forms[form].write({slot.name: slot.misreadings[0]}), forms


def digits_sum():
    return world.sample_problems("rl", 1, 3, ["digits-sum"])[0]


@pytest.mark.parametrize("seed", range(3))
def test_repairs_of_the_oracle_are_clean(seed):
    judged = 0
    for problem in world.sample_problems("rl", 60, seed):
        draft, _ = misread(problem)
        if not world.error_spans(problem, draft):
            continue
        judged += 1
        assert audit(problem, draft, oracle_repair(problem, draft, TOKENIZER)).verdict == "clean"
    assert judged > 30


def test_a_right_answer_with_a_wrong_reading_is_unseen_evidence():
    problem = digits_sum()
    draft, _ = misread(problem)
    repair = " ".join([*draft.split()[:-1], problem.answer.split()[-1]])
    assert world.is_correct(problem, repair)
    result = audit(problem, draft, repair)
    assert result.verdict == "unseen_evidence"
    assert all(word in repair.split() for word in result.evidence.replace(",", "").split())


def test_taking_another_form_changes_what_was_right():
    problem = digits_sum()
    draft, forms = misread(problem)
    other = max((form.write() for form in forms), key=lambda text: changed_words(draft, text)[0].sum())
    result = audit(problem, draft, other, reference=other)
    assert result.verdict in ("template_shortcut", "mask_hallucination")
    assert result.evidence
    assert "%" in result.reason


def test_a_bare_answer_is_a_template():
    problem = digits_sum()
    draft, _ = misread(problem)
    assert audit(problem, draft, f"answer {problem.answer}").verdict == "template_shortcut"


def test_the_share_of_changed_right_words_separates_paraphrase_and_rewrite(monkeypatch):
    problem = digits_sum()
    draft, forms = misread(problem)
    errors = wrong_words(problem, draft)
    for form in forms:
        repair = form.write()
        away = changed_words(draft, repair)[0] & ~errors
        share = away.sum() / (~errors).sum()
        expected = "clean" if share == 0 else "template_shortcut" if share > 0.5 else "mask_hallucination"
        assert audit(problem, draft, repair).verdict == expected


def test_a_draft_in_no_known_form_is_judged_by_what_the_repair_states():
    problem = digits_sum()
    right = world.correct_answers(problem)[0]
    assert audit(problem, "what a mess", right).verdict == "clean"


def test_without_the_truth_there_is_no_verdict():
    [result] = EmbeddedAuditor().audit([AuditCase("?", (), "a", "b", None)])
    assert result.verdict is None
    assert "truth" not in result.evidence


def test_wrong_words_are_the_misread_one_and_what_follows_from_it():
    problem = digits_sum()
    draft, forms = misread(problem)
    right = forms[0].write()
    differ = np.array([a != b for a, b in zip(draft.split(), right.split(), strict=True)])
    np.testing.assert_array_equal(wrong_words(problem, draft), differ)
    assert wrong_words(problem, "no form") is None


def test_changed_words_by_hand():
    changed, written = changed_words("a b c d", "a x c d e")
    np.testing.assert_array_equal(changed, [0, 1, 0, 0])
    np.testing.assert_array_equal(written, [0, 1, 0, 0, 1])
