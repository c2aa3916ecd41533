"""The file of audits: its rows, the rows that a resumed run keeps, and its statistics."""

import json

import pytest
from PIL import Image

from difference_feedback.judges.agreement import run_agreement
from difference_feedback.judges.audit import AuditCase, AuditResult
from difference_feedback.judges.audit_log import AuditLog, audit_statistics


def rows_of(log):
    return [json.loads(line) for line in log.path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def log(tmp_path):
    log = AuditLog(tmp_path)
    image = Image.new("RGB", (4, 3), "red")
    cases = [AuditCase("größer?", (image,), "no", f"yes {i}", "ref") for i in range(2)]
    for step in range(3):
        log.write(step, "someone", cases, [AuditResult("clean", "", ""), AuditResult(None, "", "timed out")])
    return log


def test_rows_hold_all_that_a_reviewer_needs(log):
    rows = rows_of(log)
    assert len({row["id"] for row in rows}) == 6
    row = rows[3]
    assert (row["step"], row["question"], row["draft"], row["repair"], row["reference"]) == (
        *(1, "größer?", "no", "yes 1", "ref"),
    )
    assert (row["verdict"], row["reason"], row["auditor"]) == (None, "timed out", "someone")
    [name] = row["image"]
    assert Image.open(log.path.parent / name).getpixel((0, 0)) == (255, 0, 0)
    assert len(list((log.path.parent / "audit_images").iterdir())) == 1


@pytest.mark.parametrize("colors", [("red", "blue"), ("red", "red")])
def test_audits_that_differ_in_their_images_alone_and_equal_ones_have_ids_of_their_own(tmp_path, colors):
    cases = [AuditCase("How many?", (Image.new("RGB", (4, 3), color),), "3", "4", "4") for color in colors]
    results = [AuditResult(verdict, "", "") for verdict in ("clean", "unseen_evidence")]
    log = AuditLog(tmp_path)
    ids = log.write(0, "someone", cases, results)
    assert len(set(ids)) == 2
    log.rewind(0)
    assert log.write(0, "someone", cases, results) == ids
    (tmp_path / "reviews.jsonl").write_text(json.dumps({"id": ids[0], "verdict": "clean", "annotator": "ada"}))
    assert run_agreement(log.path, tmp_path / "reviews.jsonl").raw == 1.0, "the review is of the first audit"


def test_a_resumed_run_forgets_the_audits_it_makes_again(log):
    log.rewind(2)
    assert [row["step"] for row in rows_of(log)] == [0, 0, 1, 1]
    log.rewind(0)
    assert rows_of(log) == []


def test_statistics_count_the_judged():
    statistics = audit_statistics(["clean", "unseen_evidence", None, "clean", "template_shortcut"])
    assert (statistics.judged, statistics.outages, statistics.hit_rate) == (4, 1, 0.5)
    assert statistics.hits == {"unseen_evidence": 1, "template_shortcut": 1, "mask_hallucination": 0}
    low, high = statistics.hit_rate_interval
    assert 0 < low < 0.5 < high < 1
    assert statistics.summary()["hit_shares"]["unseen_evidence"] == 0.25


def test_without_judged_repairs_there_is_no_hit_rate():
    statistics = audit_statistics([None])
    assert statistics.hit_rate is None
    assert statistics.summary()["hit_shares"] == {}
