"""Repair quality against repairers whose quality is known."""

import numpy as np
import pytest

from difference_feedback import world
from difference_feedback.judges.answers import Rollout
from difference_feedback.judges.audit import AuditResult
from difference_feedback.method.repairs import Repair
from difference_feedback.models import ranks
from difference_feedback.repair.drafts import RolloutGroup, WrongDraft, sample_groups, wrong_drafts
from difference_feedback.repair.quality import held_out_drafts, repair_quality
from difference_feedback.world.nano import build_processor
from difference_feedback.world.oracle import error_tokens, mask_quality, oracle_repair, other_correct_answer

TOKENIZER = build_processor().tokenizer
EOS = TOKENIZER.eos_token_id


@pytest.fixture(scope="module")
def drafts():
    """One misread answer each, in a known form; the reference in another form."""
    rng = np.random.default_rng(0)
    references = []
    for problem in world.sample_problems("test", 60, 0):
        form = world.TASKS[problem.task].forms(problem.facts)[0]
        text = form.write({form.readings[0].name: str(rng.choice(form.readings[0].misreadings))})
        if world.error_spans(problem, text) and not world.is_correct(problem, text):
            draft = Rollout([*TOKENIZER.encode(text), EOS], text, False)
            references.append(WrongDraft(problem, draft, other_correct_answer(problem, rng)))
    assert len(references) > 20
    return references


class Scripted:
    """Answers by a function of the draft, the same for each sample or not."""

    def __init__(self, drafts, *scripts):
        self.drafts, self.scripts = drafts, scripts

    def repair(self, requests, num_samples=1):
        assert [r.draft_ids for r in requests] == [d.draft.token_ids for d in self.drafts]
        texts = [[script(d) for script in self.scripts] for d in self.drafts]
        return [[Repair([*TOKENIZER.encode(t), EOS], t) for t in candidates] for candidates in texts]


def by_hand(wrong):
    return oracle_repair(wrong.problem, wrong.draft.text, TOKENIZER)


def test_a_perfect_repairer(drafts):
    quality = repair_quality(Scripted(drafts, by_hand, by_hand), drafts, TOKENIZER)
    assert (quality.drafts, quality.num_samples) == (len(drafts), 2)
    assert (quality.accuracy_at_1, quality.accuracy_at_2, quality.feasible_share) == (1, 1, 1)
    assert quality.edit_cost == quality.oracle_edit_cost > 0
    assert quality.mask == quality.oracle_mask
    assert quality.mask_drafts == len(drafts)
    assert quality.mask.f1 > 0.9


def test_ranks_share_the_audits(drafts, monkeypatch):
    class CountingAuditor:
        name, cases = "counting", 0

        def audit(self, cases):
            self.cases += len(cases)
            return [AuditResult("clean", "", "") for _ in cases]

    auditor = CountingAuditor()
    monkeypatch.setattr(ranks.ranks(), "num_processes", 2)
    monkeypatch.setattr(ranks, "gather_object", lambda values: values)
    for rank in range(2):
        monkeypatch.setattr(ranks.ranks(), "process_index", rank)
        quality = repair_quality(Scripted(drafts, by_hand), drafts, TOKENIZER, auditor=auditor, over_ranks=True)
        assert quality.audit_survival == 1
    assert auditor.cases == len(drafts)


def test_a_repairer_that_copies_the_draft(drafts):
    quality = repair_quality(Scripted(drafts, lambda d: d.draft.text), drafts, TOKENIZER, num_samples=1)
    assert (quality.accuracy_at_1, quality.accuracy_at_2, quality.feasible_share) == (0, None, 0)
    assert quality.edit_cost is quality.oracle_edit_cost is quality.mask is None
    assert quality.mask_drafts == 0


def test_a_repairer_that_copies_the_reference_is_right_but_marks_too_much(drafts):
    perfect = repair_quality(Scripted(drafts, by_hand), drafts, TOKENIZER, num_samples=1)
    copied = repair_quality(Scripted(drafts, lambda d: d.reference), drafts, TOKENIZER, num_samples=1)
    assert copied.accuracy_at_1 == 1
    assert copied.edit_cost > 1.3 * perfect.edit_cost
    assert copied.mask.precision < perfect.mask.precision - 0.1


def test_the_cheaper_right_one_is_measured_and_a_wrong_one_counts_half(drafts):
    quality = repair_quality(Scripted(drafts, lambda d: d.draft.text, by_hand), drafts, TOKENIZER)
    assert (quality.accuracy_at_1, quality.accuracy_at_2, quality.feasible_share) == (0.5, 1, 1)
    assert quality.edit_cost == quality.oracle_edit_cost
    both = repair_quality(Scripted(drafts, lambda d: d.reference, by_hand), drafts, TOKENIZER)
    assert both.edit_cost == quality.edit_cost


def test_accuracy_at_two_looks_at_two(drafts):
    wrong = lambda d: d.draft.text  # noqa: E731
    quality = repair_quality(Scripted(drafts, wrong, wrong, by_hand), drafts, TOKENIZER, num_samples=3)
    assert (quality.accuracy_at_1, quality.accuracy_at_2, quality.feasible_share) == (pytest.approx(1 / 3), 0, 1)


def test_no_drafts_no_figures(drafts):
    quality = repair_quality(Scripted([]), [], TOKENIZER)
    assert (quality.drafts, quality.accuracy_at_1, quality.edit_cost, quality.mask) == (0, 0.0, None, None)


def test_error_tokens_are_those_of_the_wrong_values():
    [problem] = world.sample_problems("test", 1, 1, ["digits-sum"])
    form = world.TASKS["digits-sum"].forms(problem.facts)[0]
    right = form.write()
    misread = str((problem.facts["digits"][0] + 3) % 10)
    wrong = form.write({form.readings[0].name: misread})
    for prefix in ("", " "):
        ids = [*TOKENIZER.encode(prefix + wrong), EOS]
        mask = error_tokens(problem, ids, TOKENIZER)
        assert mask.shape == (len(ids),)
        marked = {TOKENIZER.decode([i]).strip() for i in np.array(ids)[mask]}
        assert misread in marked
        assert marked <= set("0123456789")
        assert not error_tokens(problem, TOKENIZER.encode(right), TOKENIZER).any()
    assert error_tokens(problem, TOKENIZER.encode("no known form"), TOKENIZER) is None


def test_mask_quality_by_hand():
    marked = [np.array([1, 1, 0, 0], bool), np.array([0, 1], bool)]
    errors = [np.array([0, 1, 1, 0], bool), np.array([0, 1], bool)]
    quality = mask_quality(marked, errors)
    assert (quality.precision, quality.recall, quality.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert mask_quality([np.array([True])], [np.array([False])]) is None


def test_groups_of_a_real_policy_are_graded(frozen):
    model, processor = frozen
    problems = world.sample_problems("rl", 4, 0)
    calls = []

    def grade(problem, text):
        calls.append((problem.question, text))
        return len(text) % 2 == 0

    groups = sample_groups(model, processor, problems, group_size=3, max_new_tokens=5, grade=grade)
    assert [g.problem for g in groups] == problems
    assert [len(g.rollouts) for g in groups] == [3] * 4
    assert calls == [(g.problem.question, r.text) for g in groups for r in g.rollouts]
    assert all(r.correct == (len(r.text) % 2 == 0) for g in groups for r in g.rollouts)
    assert all(len(g.correct) + len(g.wrong) == 3 for g in groups)


def test_references_are_siblings_or_given():
    problem, other = world.sample_problems("rl", 2, 0)
    right, right2 = Rollout([5], "five", True), Rollout([6], "six", True)
    wrong = [Rollout([i], str(i), False) for i in (7, 8)]
    groups = [RolloutGroup(problem, [wrong[0], right, wrong[1], right2]), RolloutGroup(other, wrong)]
    references = [d for seed in range(20) for d in wrong_drafts(groups, seed=seed)]
    assert {d.reference for d in references} == {"five", "six"}
    assert all(d.problem is problem for d in references)
    drafts = wrong_drafts(groups, other_reference=lambda p, rng: "given", one_per_problem=True)
    assert [(d.problem, d.draft) for d in drafts] == [(problem, wrong[0]), (other, wrong[0])]
    assert drafts[1].reference == "given"
    assert drafts[0].request.draft_ids == [7]


def test_held_out_drafts_are_wrong_answers_with_a_correct_sibling(frozen):
    problems = world.sample_problems("test", 12, 0)
    grade = lambda problem, text: len(text) % 2 == 0  # noqa: E731
    drafts = held_out_drafts(*frozen, problems, group_size=4, max_new_tokens=4, grade=grade, progress=None)
    assert drafts
    assert all(d.problem in problems and len(d.draft.text) % 2 == 1 and len(d.reference) % 2 == 0 for d in drafts)
    assert len({id(d.problem) for d in drafts}) == len(drafts)
    assert held_out_drafts(*frozen, []) == []
