"""Agreement against textbook values."""

import json

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from difference_feedback.errors import DataError
from difference_feedback.judges.agreement import agreement, run_agreement
from difference_feedback.judges.intervals import wilson_interval


def test_a_textbook_example():
    # Two readers and 50 grant proposals: 20 both yes, 5 yes/no, 10 no/yes, 15 both no; kappa is 0.40.
    auditor = ["yes"] * 25 + ["no"] * 25
    human = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    result = agreement(auditor, human)
    assert (result.n, result.raw, result.raw_interval) == (50, 0.7, wilson_interval(35, 50))
    assert result.kappa == pytest.approx(0.4)
    low, high = result.kappa_interval
    # The usual large-sample standard error is 0.13, which gives 0.15 to 0.65.
    assert low == pytest.approx(0.15, abs=0.05)
    assert high == pytest.approx(0.65, abs=0.05)
    assert result.confusion == {"no": {"no": 15, "yes": 10}, "yes": {"no": 5, "yes": 20}}


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_scikit_learn_s(seed):
    rng = np.random.default_rng(seed)
    auditor = rng.choice(list("abcd"), 80)
    human = np.where(rng.random(80) < 0.6, auditor, rng.choice(list("abcd"), 80))
    assert agreement(auditor, human).kappa == pytest.approx(cohen_kappa_score(auditor, human))


def test_kappa_is_undefined_when_both_always_say_the_same():
    result = agreement(["clean"] * 5, ["clean"] * 5)
    assert (result.raw, result.kappa, result.kappa_interval) == (1, None, None)


def test_unpaired_or_empty_verdicts_are_rejected():
    for lists in ((["a"], []), ([], [])):
        with pytest.raises(DataError, match=r"agreement: .* at least one pair"):
            agreement(*lists)


def test_each_reviewers_last_verdict_counts(tmp_path):
    audits = [{"id": str(i), "verdict": v} for i, v in enumerate(["clean", "clean", "template_shortcut", None])]
    reviews = [("0", "clean", "a"), ("1", "clean", "a"), ("1", "unseen_evidence", "a"), ("1", "clean", "b")]
    reviews += [("3", "clean", "a"), ("9", "clean", "a")]
    (tmp_path / "audits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in audits))
    keys = ("id", "verdict", "annotator")
    lines = [json.dumps(dict(zip(keys, row, strict=True))) for row in reviews]
    (tmp_path / "reviews.jsonl").write_text("\n".join(lines) + "\n{broken")
    with pytest.warns(UserWarning, match="1 rows"):
        result = run_agreement(tmp_path / "audits.jsonl", tmp_path / "reviews.jsonl")
    assert result.n == 3
    assert result.confusion == {"clean": {"clean": 2, "unseen_evidence": 1}}
    (tmp_path / "reviews.jsonl").write_text("")
    assert run_agreement(tmp_path / "audits.jsonl", tmp_path / "reviews.jsonl") is None
