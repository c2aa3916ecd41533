"""The auditor's factor: whom it asks, what it closes, what it does when nobody answers."""

import json
from itertools import pairwise

import pytest

from difference_feedback.judges.audit import AuditResult
from difference_feedback.judges.audit_log import AuditLog
from difference_feedback.repair.audit_factor import LONGEST_PAUSE, AuditFactor, AuditorDownError


class Scripted:
    """Calls repairs with an `x` in them unseen evidence; down while `down`."""

    name = "scripted"

    def __init__(self):
        self.asked, self.down = [], False

    def audit(self, cases):
        self.asked.append([case.repair for case in cases])
        if self.down:
            return [AuditResult(None, "", "no route") for _ in cases]
        return [AuditResult("unseen_evidence" if "x" in case.repair else "clean", "x", "says x") for case in cases]


def call(factor, texts, correct, **columns):
    n = len(texts)
    rows = {"question": ["?"] * n, "draft": ["d"] * n, "reference": ["r"] * n, "images": [[]] * n}
    rows |= {"draft_id": ["1"] * n, "prompts": [[]] * n, "completion_ids": [[1]] * n}
    return factor(completions=[[{"role": "assistant", "content": t}] for t in texts], correct=correct, **rows | columns)


def test_the_factor_is_0_for_faults_and_each_right_repair_is_audited_once():
    auditor = Scripted()
    assert call(AuditFactor(auditor), ["a", "x", "x wrong", "x", "a"], [1, 1, 0, 1, 1]) == [1, 0, 1, 0, 1]
    assert auditor.asked == [["a", "x"]]


def test_an_unjudged_repair_is_not_audited():
    auditor = Scripted()
    assert call(AuditFactor(auditor), ["x"], [float("nan")]) == [1]
    assert auditor.asked == []


def test_the_same_text_for_two_drafts_is_two_cases():
    auditor = Scripted()
    call(AuditFactor(auditor), ["a", "a"], [1, 1], draft_id=["1", "2"])
    assert auditor.asked == [["a", "a"]]


def test_a_rate_audits_that_share_and_the_same_ones_again():
    texts, auditor = [f"a{i}" for i in range(400)], Scripted()
    for _ in range(2):
        call(AuditFactor(auditor, rate=0.25), texts, [1] * 400)
    assert auditor.asked[0] == auditor.asked[1]
    assert 70 < len(auditor.asked[0]) < 130


def test_when_the_auditor_is_down_the_factor_is_1_and_the_outage_is_counted(tmp_path):
    auditor, logged, log = Scripted(), {}, AuditLog(tmp_path)
    auditor.down = True
    factor = AuditFactor(auditor, log=log)
    assert call(factor, ["x", "x2"], [1, 1], log_metric=logged.__setitem__) == [1, 1]
    assert (logged["repair/audited"], logged["repair/audit_outages"]) == (0, 2)
    assert [json.loads(line)["verdict"] for line in log.path.read_text().splitlines()] == [None, None]


def test_a_down_auditor_is_asked_less_and_less_and_then_again():
    auditor = Scripted()
    auditor.down = True
    factor, steps = AuditFactor(auditor), []
    for step in range(200):
        before = len(auditor.asked)
        call(factor, ["x"], [1])
        if len(auditor.asked) > before:
            steps.append(step)
    pauses = [b - a - 1 for a, b in pairwise(steps)]
    assert pauses == [1, 2, 4, 8, 16, *[LONGEST_PAUSE] * (len(pauses) - 5)]
    assert LONGEST_PAUSE in pauses
    auditor.down = False
    answers = [call(factor, ["x"], [1]) for _ in range(LONGEST_PAUSE + 2)]
    assert answers[-2:] == [[0], [0]]


def test_it_can_stop_the_run_instead():
    auditor = Scripted()
    auditor.down = True
    with pytest.raises(AuditorDownError, match=r"scripted judged none of 1 repairs .no route.*when_down=open"):
        call(AuditFactor(auditor, when_down="stop"), ["x"], [1])


def test_shares_of_the_verdicts_are_logged():
    logged = {}
    call(AuditFactor(Scripted()), ["a", "x", "b", "c"], [1] * 4, log_metric=logged.__setitem__)
    assert logged["repair/audit_unseen_evidence"] == 0.25
    assert logged["repair/audit_clean"] == 0.75
    assert (logged["repair/audited"], logged["repair/audit_outages"]) == (4, 0)
