"""`repair check` against what is known: the oracle, the blind rewriter, degraded repairs, a server, bad rows."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from difference_feedback.annotate.items import find_work
from difference_feedback.annotate.reviews import ReviewProject
from difference_feedback.cli import app
from difference_feedback.errors import ConfigError
from difference_feedback.judges.embedded_auditor import EmbeddedAuditor
from difference_feedback.judges.intervals import clustered_interval
from difference_feedback.policy import draft_sources
from difference_feedback.policy import repair_check as measuring
from difference_feedback.policy.draft_sources import draft_source
from difference_feedback.report.repair_check import PAGE, finish_check
from difference_feedback.report.repair_figures import UNCLEAN
from difference_feedback.runs.check_repair import check_repair_check
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import read_rows, write_jsonl
from difference_feedback.runs.loading import build_recipe, load_values
from difference_feedback.runs.repair_check import RepairCheckRecipe
from difference_feedback.world import error_spans, is_correct
from difference_feedback.world.oracle import Flaws, flawed_repair

STARTER = Path(__file__).parents[2] / "examples" / "mathvision_starter"
NANO = load_values("nano_repair_check", RepairCheckRecipe) | {"drafts": 90, "blank_image": False}


@pytest.fixture(scope="module")
def sampled() -> Any:
    """The wrong answers of the nano base to some rounds of questions, sampled once."""
    source = draft_source(RepairCheckRecipe.model_validate(NANO))
    rounds = list(source.rounds(0, NANO["drafts"]))
    parts = {
        name: getattr(source, name)
        for name in ("name", "remedy", "policy", "processor", "grader", "problems", "content")
    }
    return SimpleNamespace(**parts, rounds=lambda first, wanted: iter(rounds[first:]))


@pytest.fixture
def measure(sampled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """The summary of a check of these wrong answers."""
    monkeypatch.setattr(measuring, "draft_source", lambda recipe: sampled)

    def summary(**values: Any) -> dict[str, Any]:
        recipe = RepairCheckRecipe.model_validate(NANO | values)
        run = Run(tmp_path / str(values["repair_model"]), recipe)
        measuring.measure_repairs(recipe, run)
        return finish_check(recipe, run)

    return summary


def covers(share: dict[str, Any], truth: float) -> bool:
    return bool(share["interval"][0] <= truth <= share["interval"][1])


def test_the_oracle_is_always_right_and_clean_and_is_likely_to_pay(measure: Any) -> None:
    summary = measure(repair_model="oracle")
    assert [summary[name]["share"] for name in ("right", "usable", "clean")] == [1.0, 1.0, 1.0]
    assert (summary["clean_by"], summary["verdict"], summary["unedited"]["count"]) == ("truth", "pays", 0)
    assert summary["p_err"]["share"] == pytest.approx(0.43, abs=0.12), "the base is right for 57 %"


def test_the_blind_rewriter_measures_as_in_the_evidence(measure: Any) -> None:
    """85 % right and 64 % of these clean, over 1,948 wrong answers (evidence/results/reference_use.json)."""
    summary = measure(repair_model="blind_rewriter")
    assert covers(summary["right"], 0.85)
    assert covers(summary["clean"], 0.64)


def test_the_closest_sibling_is_always_right_and_edits_less_than_the_reference(measure: Any) -> None:
    sibling, reference = measure(repair_model="sibling"), measure(repair_model="reference")
    assert sibling["right"]["share"] == reference["right"]["share"] == reference["copied"]["share"] == 1.0
    assert sibling["edit_cost"]["mean"] < reference["edit_cost"]["mean"]


@pytest.mark.parametrize(("right", "clean"), [(0.7, 0.75), (0.4, 0.5)])
def test_repairs_degraded_to_known_shares_are_measured_within_their_intervals(
    measure: Any, sampled: Any, right: float, clean: float
) -> None:
    flaws, tokenizer = Flaws(right, clean), sampled.processor.tokenizer
    drafts = [draft for _, of_round in sampled.rounds(0, NANO["drafts"]) for draft in of_round.drafts]
    repairs = [(draft.question, flawed_repair(draft.question, draft.text, tokenizer, flaws)) for draft in drafts]
    ends_right = [(question, text) for question, text in repairs if is_correct(question, text)]
    without_error = [text for question, text in ends_right if error_spans(question, text) == []]
    summary = measure(repair_model="oracle", repairs={"oracle_right": right, "oracle_clean": clean})
    assert (summary["right"]["count"], summary["clean"]["count"]) == (len(ends_right), len(without_error))
    assert covers(summary["right"], right)
    assert covers(summary["clean"], len(without_error) / len(ends_right))


def test_the_auditor_s_clean_is_the_truth_s(sampled: Any) -> None:
    """Of repairs in a known form: with the verdict that it goes by, an auditor says what the chart's axis means."""
    from difference_feedback.judges.audit import AuditCase

    drafts = [draft for _, of in sampled.rounds(0, 90) for draft in of.drafts][:100]
    cases = [AuditCase(d.question.question, (), d.text, d.reference, None, d.question) for d in drafts]
    verdicts = [result.verdict for result in EmbeddedAuditor().audit(cases)]
    spans = [error_spans(draft.question, draft.reference) for draft in drafts]
    known = [(verdict != UNCLEAN, of == []) for verdict, of in zip(verdicts, spans, strict=True) if of is not None]
    assert len({truth for _, truth in known}) == 2
    assert all(said == truth for said, truth in known)


def rows_of_a_user() -> list[Any]:
    good = [json.loads(line) for line in (STARTER / "items.jsonl").read_text(encoding="utf-8").splitlines()[:4]]
    bad = [
        {**good[0], "id": "no draft", "draft": None},
        {**good[0], "id": "no image", "image": "images/none.png"},
        {**good[0], "id": "no answer", "answer": None, "reference": None},
        {**good[0], "id": "not wrong", "draft": "It is \\boxed{3}."},
        {**good[1], "id": good[0]["id"]},
    ]
    by_reference = {**good[1], "id": "by reference", "answer": None}
    return [*good, *bad, "no row", by_reference]


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.jsonl"
    (tmp_path / "images").mkdir()
    for row in rows_of_a_user()[:4]:
        for name in row["image"]:
            Image.new("RGB", (56, 56), "white").save(tmp_path / name)  # small ones take little time
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows_of_a_user()]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def command(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["repair", "check", *words])
    return result.exit_code, result.output + result.stderr


def test_a_user_s_file_a_server_and_people_who_review(
    openai_server: Any, users_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft_sources, "ROUND", 2)
    words = [f"wrong_answers={users_file}", "repair_model=null", "repairs.via=endpoint", "repairs.style=nano"]
    words += [f"repairs.endpoint.url={openai_server.url}", "repairs.endpoint.model=nano", "num_repairs=1"]
    words += ["reward=" + str(tmp_path / "lenient.py") + ":right", "blank_image=false", f"--output={tmp_path / 'run'}"]
    drafts = [row["draft"] for row in rows_of_a_user()[:4]]
    known = f"[float(c[-1]['content'] not in {drafts!r}) for c in completions]"
    (tmp_path / "lenient.py").write_text(f"def right(completions, **columns):\n    return {known}\n")
    code, said = command(*words)
    assert code == 0, said
    said = " ".join(said.split())
    for place in ('"draft"', '"image"', '"answer"', '"id"', "line 10"):
        assert place in said
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    rows = read_rows(tmp_path / "run" / "repairs.jsonl")
    right = sum(bool(row["right"]) for row in rows)
    assert summary["clean"] is None
    assert "nobody has said" in summary["sentence"]
    assert (len(openai_server.requests), summary["drafts"]) == (len(rows), len(rows))
    assert len(rows) + len(summary["unusable_rows"]) == len(rows_of_a_user()), "no row is lost"
    _, work = find_work(tmp_path / "run")
    assert right
    assert work is not None
    project = ReviewProject(work)
    for place in range(len(project.items)):
        project.save("ann", place, "clean" if place else UNCLEAN)
    assert project.agreement() is None, "there is no auditor to agree with"
    code, said = command(*words)
    assert code == 0, said
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["clean_by"], summary["clean"]["of"]) == ("people", right)
    assert summary["clean"]["count"] == right - 1


def row_of_figures(n: int, verdict: str | None, *, chosen: bool = True) -> dict[str, Any]:
    row = {"id": f"d{n}.0", "draft_id": f"d{n}", "question_id": f"q{n}", "round": 0, "question": "q", "image": []}
    row |= {"answer": "1", "draft": "it is 2", "reference": "it is 1", "repair": "it is 1", "right": True}
    row |= {"refused": None, "chosen": chosen, "copied": False, "edit_cost": 0.1, "audit": f"a{n}", "reason": ""}
    return row | {"verdict": verdict, "right_without_image": None}


@pytest.mark.parametrize(
    ("audited", "reviewed", "by", "clean", "clean_chosen", "note"),
    [
        (range(20), {}, "auditor", (20, 20), (10, 10), None),
        (range(20), {0: False, 1: True, 12: True}, "people", (2, 3), (1, 2), "it says the same of 2"),
        (range(1), {0: False}, "people", (0, 1), (0, 1), "auditor judged 1"),
        (range(20), {12: False}, "auditor", (20, 20), (10, 10), None),
        (range(0), {12: True}, "people", (1, 1), (0, 0), "annotate"),
        (range(0), {}, None, None, None, "annotate"),
    ],
)
def test_people_say_what_is_clean_before_the_auditor_and_table_page_and_notes_agree(
    tmp_path: Path, audited: Any, reviewed: dict[int, bool], by: str, clean: Any, clean_chosen: Any, note: str | None
) -> None:
    """20 right repairs, of which the first 10 are chosen; the auditor calls all clean."""
    rows = [row_of_figures(n, "clean" if n in audited else None, chosen=n < 10) for n in range(20)]
    recipe = RepairCheckRecipe.model_validate({"wrong_answers": "items.jsonl", "repair_model": "reference"})
    run = Run(tmp_path / "run", recipe)
    write_jsonl(run.folder / "repairs.jsonl", rows)
    verdicts = {n: "clean" if says else UNCLEAN for n, says in reviewed.items()}
    reviews = [{"id": f"a{n}", "annotator": "ann", "verdict": verdict} for n, verdict in verdicts.items()]
    write_jsonl(run.folder / "reviews.jsonl", reviews)
    summary = finish_check(recipe, run)
    assert summary["clean_by"] == by
    for name, counts in (("clean", clean), ("clean_chosen", clean_chosen)):
        assert (summary[name] and (summary[name]["count"], summary[name]["of"])) == counts
    assert [note in text for text in summary["notes"] if "auditor" in text] == [True] * (note is not None)
    page = (run.folder / PAGE).read_text(encoding="utf-8")
    hits, known = clean or (0, 0)
    for title, count in (("Right and clean", hits), ("Right, but not clean", known - hits), ("Right; ", 20 - known)):
        shown = [int(n) for n in re.findall(rf"<h2>{title}[^<]*<span class=\"small\">\d+ of (\d+)<", page)]
        assert shown == [count] * (count > 0)


def test_a_check_that_was_stopped_ends_as_one_that_was_not(
    users_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft_sources, "ROUND", 2)
    values = {
        "wrong_answers": str(users_file),
        "drafts": 4,
        "repair_model": "nano",
        "kind": "repair-check",
        "num_repairs": 1,
    }
    recipe = RepairCheckRecipe.model_validate(values | {"sampling": {"max_new_tokens": 24}, "blank_image": False})
    whole, parts = Run(tmp_path / "whole", recipe), Run(tmp_path / "parts", recipe)
    measuring.measure_repairs(recipe, whole)
    log = parts.log

    def stop(**values: Any) -> None:
        if values["step"] == 1:
            raise KeyboardInterrupt  # its rows are written, and the row that closes the round is not
        log(**values)

    monkeypatch.setattr(parts, "log", stop)
    with pytest.raises(KeyboardInterrupt):
        measuring.measure_repairs(recipe, parts)
    monkeypatch.undo()
    monkeypatch.setattr(draft_sources, "ROUND", 2)
    measuring.measure_repairs(recipe, parts)
    rows = [read_rows(run.folder / "repairs.jsonl") for run in (whole, parts)]
    assert rows[0] == rows[1]
    assert len({row["draft_id"] for row in rows[0]}) == 4
    finish_check(recipe, parts)
    page = (tmp_path / "parts" / PAGE).read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert "<script" not in page


def test_a_file_that_changed_is_not_mixed_with_what_an_interrupted_check_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft_sources, "ROUND", 2)
    file, run = tmp_path / "items.jsonl", tmp_path / "run"
    file.write_text("\n".join([*map(row_of_text, range(4)), "no row"]), encoding="utf-8")
    words = [f"wrong_answers={file}", "repair_model=reference", f"--output={run}"]
    measure = measuring._Checker.measure

    def stop(self: Any, number: int, of_round: Any) -> None:
        if number == 1:
            raise KeyboardInterrupt
        measure(self, number, of_round)

    monkeypatch.setattr(measuring._Checker, "measure", stop)
    command(*words)
    monkeypatch.setattr(measuring._Checker, "measure", measure)
    rows = file.read_text(encoding="utf-8")
    file.write_text(rows + "\n" + row_of_text(4), encoding="utf-8")
    code, said = command(*words)
    assert code != 0
    for word in (file.name, "have changed", "--output", "--overwrite"):
        assert word in " ".join(said.split())
    assert len(read_rows(run / "repairs.jsonl")) == 2, "a reference is one repair"
    file.write_text(rows.removesuffix("no row"), encoding="utf-8")  # a row that could not be used anyway
    assert command(*words)[0] == 0
    assert len({row["draft_id"] for row in read_rows(run / "repairs.jsonl")}) == 4
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert len(summary["unusable_rows"]) == 1


def test_a_file_in_which_nothing_was_wrong_is_read_again_once_it_is_corrected(tmp_path: Path) -> None:
    file, run = tmp_path / "items.jsonl", tmp_path / "run"
    rows = [json.loads(row_of_text(n)) for n in range(3)]
    write_jsonl(file, [row | {"answer": row["draft"].split()[-1]} for row in rows])
    words = [f"wrong_answers={file}", "repair_model=reference", f"--output={run}"]
    code, said = command(*words)
    assert code != 0
    assert "there is no wrong answer" in said
    write_jsonl(file, rows)
    code, said = command(*words)
    assert code == 0, said
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert (summary["drafts"], summary["unusable_rows"]) == (3, [])


def test_what_people_wrote_cannot_leave_its_place_on_the_page(tmp_path: Path) -> None:
    attack = "</p><script>alert(1)</script><img src=x onerror=alert(1)>"
    row = {"id": attack, "question": attack, "image": [], "draft": attack, "answer": "1", "reference": "answer 1"}
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    recipe = RepairCheckRecipe.model_validate({"wrong_answers": str(path), "repair_model": "reference"})
    run = Run(tmp_path / "run", recipe)
    measuring.measure_repairs(recipe, run)
    finish_check(recipe, run)
    page = (tmp_path / "run" / PAGE).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img src=x" not in page


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["repair_model=null"], "repair_model"),
        (["repair_model=runs/none"], "repair_model: runs/none"),
        (["policy=runs/none"], "policy: runs/none"),
        (["repairs.via=endpoint", "repair_model=null"], "repairs.endpoint"),
        (["repairs.via=vllm", "repair_model=null", "repairs.endpoint.url=http://127.0.0.1:9/v1",
          "repairs.endpoint.model=m"], "repairs.endpoint.url"),
        (["wrong_answers=none.jsonl"], "wrong_answers"),
        ([f"wrong_answers={STARTER / 'README.md'}"], "wrong_answers"),
        ([f"wrong_answers={STARTER}", "repair_model=oracle"], "repair_model: oracle"),
        ([f"wrong_answers={STARTER}", "data.path=x.jsonl"], "data"),
        (["run=runs/none"], "run: runs/none"),
        (["audit.auditor=embedded"], "audit.auditor"),
        (["sampling.max_new_tokens=999999"], "sampling.max_new_tokens"),
        ([f"wrong_answers={STARTER}", "sampling.max_new_tokens=999999"], "sampling.max_new_tokens"),
        (["base_seconds=1e-300"], "base_seconds"),
        (["repairs.temperature=0.0"], "repairs.temperature"),
        (["model=runs/repair_rl"], "model"),
    ],
)  # fmt: skip
def test_a_mistake_is_found_before_anything_is_loaded(overrides: list[str], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        check_repair_check(build_recipe(RepairCheckRecipe, NANO, overrides))


def test_a_training_run_prices_a_step(measure: Any, tmp_path: Path) -> None:
    """The overhead is p_err K C_repair / C_base, and is subtracted by what GRPO gains by a doubling of compute."""
    (tmp_path / "grpo").mkdir()
    cost = {"wall": {"base": 10.0, "answers": 100.0, "p_err": 0.5}}
    (tmp_path / "grpo" / "summary.json").write_text(json.dumps({"cost": cost}))
    summary = measure(repair_model="sibling", run=str(tmp_path / "grpo"), num_repairs=1)
    step = summary["step"]
    assert step["overhead"] == pytest.approx(0.5 * 1 * summary["seconds"]["wall"]["mean"] / 0.1)
    assert not any("not known" in note for note in summary["notes"])


@pytest.mark.parametrize("alike", [0.05, 0.3])
def test_the_interval_of_clustered_trials_covers_the_share(alike: float) -> None:
    """95 of 100 over 1,000 draws of 60 clusters, beta-binomial; three standard errors below that are 93."""
    rng, hits, share = np.random.default_rng(0), 0, 0.7
    for _ in range(1000):
        trials = rng.integers(1, 7, 60)
        odds = (1 - alike) / alike
        successes = rng.binomial(trials, rng.beta(share * odds, (1 - share) * odds, 60))
        low, high = clustered_interval(list(zip(successes.tolist(), trials.tolist(), strict=True)))
        hits += low <= share <= high
    assert 0.93 <= hits / 1000 <= 0.98


def row_of_text(n: int) -> str:
    row = {"id": f"t{n}", "question": f"What is {n} + {n}?", "image": [], "answer": str(2 * n)}
    return json.dumps(row | {"draft": f"It is 3. answer {2 * n + 1}", "reference": f"answer {2 * n}"})


@pytest.mark.parametrize("failing", ["reward", "repairs.endpoint"])
def test_an_outage_stops_the_check_and_a_few_failures_after_a_success_do_not(
    openai_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """A check in which nothing was judged has no verdict, least of all that training costs."""
    monkeypatch.setattr(draft_sources, "ROUND", 4)
    (tmp_path / "items.jsonl").write_text("\n".join(map(row_of_text, range(5))), encoding="utf-8")
    (tmp_path / "silent.py").write_text("def judge(completions, **columns):\n    return [None for _ in completions]\n")
    words = [f"wrong_answers={tmp_path}", "repair_model=reference", f"--output={tmp_path / 'run'}"]
    down = [f"reward={tmp_path / 'silent.py'}:judge"]
    if failing != "reward":
        words[1] = "repair_model=null"
        down = ["repairs.via=endpoint", f"repairs.endpoint.url={openai_server.url}", "repairs.endpoint.model=other"]
    code, said = command(*words, *down)
    assert code != 0
    assert failing in said
    assert ("does not exist" in said) == (failing != "reward"), "what the server says is passed on"
    assert not (tmp_path / "run" / "summary.json").is_file()
    checker = measuring._Checker.__new__(measuring._Checker)
    checker.works = {"repairs"}
    assert not checker._is_outage("repairs", [True])
    assert checker._is_outage("repairs", [True] * measuring.OUTAGE)


def test_wrong_answers_that_nobody_judged_are_no_wrong_answers(tmp_path: Path) -> None:
    rows = [*map(row_of_text, range(6)), json.dumps(json.loads(row_of_text(7)) | {"answer": float("nan")})]
    (tmp_path / "items.jsonl").write_text("\n".join(rows), encoding="utf-8")
    judge = "def judge(completions, answer, **columns):\n    texts = [c[0]['content'] for c in completions]\n"
    verdict = "None if a in ('2', '4') else float(t.split()[-1] == a)"
    (tmp_path / "some.py").write_text(judge + f"    return [{verdict} for t, a in zip(texts, answer)]\n")
    words = [f"wrong_answers={tmp_path}", "repair_model=reference", f"reward={tmp_path / 'some.py'}:judge"]
    code, said = command(*words, f"--output={tmp_path / 'run'}")
    assert code == 0, said
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["drafts"] == 4
    left_out = " ".join(summary["unusable_rows"])
    assert left_out.count("no verdict") == 2
    assert "nan" in left_out


def test_a_run_on_a_gpu_does_not_price_repairs_on_a_processor(measure: Any, tmp_path: Path) -> None:
    (tmp_path / "grpo").mkdir()
    terms = {"base": 10.0, "answers": 100.0, "p_err": 0.5}
    (tmp_path / "grpo" / "summary.json").write_text(json.dumps({"cost": dict.fromkeys(("wall", "cpu", "gpu"), terms)}))
    summary = measure(repair_model="sibling", run=str(tmp_path / "grpo"), num_repairs=1)
    assert summary["step"] is None
    assert any("GPU seconds" in note for note in summary["notes"])


def test_what_a_step_costs_can_be_said_afterwards(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text("\n".join(map(row_of_text, range(5))), encoding="utf-8")
    words = [f"wrong_answers={tmp_path}", "repair_model=reference", f"--output={tmp_path / 'run'}"]
    summaries, measured = [], []
    for cost in ([], ["base_seconds=0.5", "p_err=0.4"]):
        code, said = command(*words, *cost)
        assert code == 0, said
        summaries.append(json.loads((tmp_path / "run" / "summary.json").read_text()))
        measured.append((tmp_path / "run" / "repairs.jsonl").read_bytes())
    assert measured[0] == measured[1]
    assert summaries[0]["step"] is None
    assert summaries[1]["step"]["overhead"] == pytest.approx(0.4 * 2 * summaries[0]["seconds"]["wall"]["mean"] / 0.5)
    assert summaries[1]["seconds"]["wall"] == summaries[0]["seconds"]["wall"]
    assert command(*words, "seed=1")[0] != 0, "other keys make another run"


def test_no_interval_leaves_what_is_possible() -> None:
    from difference_feedback.report.repair_figures import _mean

    assert _mean([[0.0], [1.0]], (0.0, 1.0)) == (0.5, (0.0, 1.0))
    mean, interval = _mean([[0.4], [0.6]] * 30, (0.0, 1.0))
    assert interval == pytest.approx((mean - 0.0261, mean + 0.0261), abs=1e-4)  # t 2.001, s 0.1008, n 60


def test_repairs_that_an_auditor_did_not_judge_are_not_clean_and_are_told(openai_server: Any, tmp_path: Path) -> None:
    """The nano model behind the server writes no verdict that can be read."""
    (tmp_path / "items.jsonl").write_text("\n".join(map(row_of_text, range(3))), encoding="utf-8")
    words = [f"wrong_answers={tmp_path}", "repair_model=reference", f"--output={tmp_path / 'run'}"]
    words += ["audit.auditor=endpoint", f"audit.endpoint.url={openai_server.url}", "audit.endpoint.model=nano"]
    code, said = command(*words, "audit.endpoint.max_tokens=8")
    assert code == 0, said
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["right"]["count"] == 3
    assert summary["clean"] is None
    assert any("auditor" in note and "3 of 3" in note for note in summary["notes"])


def test_flaws_belong_to_the_oracle() -> None:
    recipe = RepairCheckRecipe.model_validate(NANO | {"repair_model": "nano", "repairs": {"oracle_clean": 0.5}})
    with pytest.raises(ConfigError, match=r"repairs\.oracle_clean"):
        check_repair_check(recipe)
