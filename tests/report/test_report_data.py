"""The files that the report reads and rejects, and the page as text."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difference_feedback.errors import DataError
from difference_feedback.report.chart import learning_chart, nice_ticks, spread
from difference_feedback.report.collect import load_report
from difference_feedback.report.data import Curve, CurvePoint, MethodResult
from difference_feedback.report.page import verdict, write_report
from difference_feedback.report.repair_check import PAGE
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import JsonLines
from difference_feedback.runs.recipes import EvaluateRecipe, RepairRLRecipe, RepairSFTRecipe, TrainRecipe
from difference_feedback.runs.repair_check import RepairCheckRecipe


def test_a_demo_s_folder_is_read_with_its_cells_in_the_plan_s_order(demo_folder: Path) -> None:
    data = load_report([demo_folder])
    assert list(data.methods) == ["GRPO", "DF-GRPO"]
    assert (data.base_accuracy, data.upper_bound) == (0.52, 0.89)
    assert len(data.examples) == 12
    assert [name.split("-")[0] for name in data.configs] == [
        *("demo", "demo/grpo", "demo/df_grpo", "demo/repair_sft", "demo/repair_rl"),
    ]
    assert data.methods["DF-GRPO"].interval == pytest.approx((0.70, 0.80))
    assert data.methods["DF-GRPO"].setup_cpu_seconds == 40.3
    assert list(data.costs) == ["GRPO", "DF-GRPO"]
    assert data.repair is not None
    assert [(stage.name, stage.accuracy_at_1, stage.cpu_seconds) for stage in data.repair.stages] == [
        ("start", 0.21, None),
        ("SFT", 0.66, 28.4),
        ("RL", 0.75, 11.9),
    ]
    curves = {curve.name: curve.points for curve in data.curves}
    assert [point.accuracy for point in curves["GRPO"]] == [0.52, 0.57, 0.61, 0.65, 0.66, 0.68]
    assert curves["GRPO"][0].cpu_seconds == 0
    assert curves["DF-GRPO"][0].cpu_seconds == 40.3, "the repair model's training comes first"
    assert curves["DF-GRPO"][-1].cpu_seconds == 150


def test_a_second_seed_of_a_method_stands_beside_the_first(demo_folder: Path) -> None:
    (first,) = demo_folder.glob("cells/grpo-*")
    second = first.with_name(f"{first.name.rpartition('-')[0].replace('seed0', 'seed1')}-0123456789")
    shutil.copytree(first, second)
    rows = [json.loads(line) for line in (demo_folder / "results.jsonl").read_text().splitlines()]
    (row,) = (row for row in rows if row["method"] == "grpo")
    JsonLines(demo_folder / "results.jsonl").append(row | {"hash": "0123456789"})
    data = load_report([demo_folder])
    assert list(data.methods) == ["GRPO", f"GRPO ({second.name})", "DF-GRPO"]
    assert {curve.name for curve in data.curves} == set(data.methods)


def test_several_runs_stand_side_by_side_even_of_one_method(demo_folder: Path, training_folder: Path) -> None:
    data = load_report([demo_folder, training_folder])
    assert list(data.methods) == ["GRPO", "DF-GRPO", "GRPO (single)"]
    assert {curve.name for curve in data.curves} == set(data.methods)
    assert len(data.costs) == 3


def test_a_single_run_makes_a_page(training_folder: Path, tmp_path: Path) -> None:
    page = write_report(training_folder, tmp_path / "deep" / "page.html")
    assert page == tmp_path / "deep" / "page.html"
    assert "60.0 %" in page.read_text()


def test_repair_runs_show_their_stages_in_order(tmp_path: Path) -> None:
    qualities = [
        {"accuracy_at_1": a, "feasible_share": a, "edit_cost": 0.3, "oracle_edit_cost": 0.1} for a in (0.2, 0.6, 0.7)
    ]
    for i, (name, recipe) in enumerate({"sft": RepairSFTRecipe(), "rl": RepairRLRecipe()}.items()):
        before, after = qualities[i], qualities[i + 1]
        Run(tmp_path / name, recipe).finish({"before": before, "after": after, "cpu_seconds": 30.0 + i})
    figures = load_report([tmp_path / "sft", tmp_path / "rl"]).repair
    assert figures is not None
    assert [(s.name, s.accuracy_at_1, s.cpu_seconds) for s in figures.stages] == [
        ("start", 0.2, None),
        ("sft", 0.6, 30.0),
        ("rl", 0.7, 31.0),
    ]
    assert figures.oracle_edit_cost == 0.1


FACTORS = {
    "reward_without_factors": 0.42,
    "reward_with_factors": 0.09,
    "visual_kept": 0.82,
    "audit_kept": 0.65,
    "right_without_image": 0.1,
    "audit": {"judged": 4, "outages": 2, "hits": {"unseen_evidence": 1}, "hit_rate": 0.25},
}


def test_the_factors_of_a_repair_run_are_shown_with_the_agreement_of_its_reviewers(tmp_path: Path) -> None:
    run = Run(tmp_path / "rl", RepairRLRecipe())
    quality = {"accuracy_at_1": 0.5, "visual_survival": 0.91, "audit_survival": 0.37}
    run.finish({"before": quality, "after": quality, "cpu_seconds": 30.0, "factors": FACTORS})
    page = write_report(run.folder).read_text()
    for text in (
        "82.0 %",
        "10.0 % of the repairs",
        "4 right repairs judged",
        "2 without a verdict",
        "25.0 %",
        "91.0 %",
    ):
        assert text in page
    assert "Nobody has reviewed" in page
    verdicts = ["clean", "unseen_evidence", "clean", "clean"]
    audits = [{"id": str(i), "verdict": verdict} for i, verdict in enumerate(verdicts)]
    reviews = [{"id": str(i), "verdict": "clean"} for i in range(4)]
    for name, rows in (("audits", audits), ("reviews", reviews)):
        (run.folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_report(run.folder).read_text()
    assert "reviewed 4 repairs" in page
    assert "agree on 75.0 %" in page


def test_a_factor_that_is_off_is_shown_as_off(tmp_path: Path) -> None:
    run = Run(tmp_path / "rl", RepairRLRecipe())
    run.finish({"cpu_seconds": 30.0, "factors": FACTORS | {"audit_kept": None, "audit": None}})
    page = write_report(run.folder).read_text()
    assert "<td>auditor</td><td>off</td>" in page
    assert "What the auditor found" not in page


def test_the_page_names_no_other_file(demo_folder: Path) -> None:
    html = write_report([demo_folder]).read_text()
    assert not re.search(r"""(?:src|href|action)\s*=\s*["'](?!data:)""", html)
    assert not re.search(r"url\(|@import|https?://", html)


def test_the_old_name_of_a_repair_is_read(demo_folder: Path) -> None:
    repair = load_report([demo_folder]).examples[0].repair
    path = demo_folder / "examples.jsonl"
    path.write_text(path.read_text().replace('"repair":', '"repaired":'))
    assert load_report([demo_folder]).examples[0].repair == repair


def test_hostile_text_is_escaped_everywhere(demo_folder: Path) -> None:
    hostile = "<script>alert(1)</script>\"'&"
    path = demo_folder / "examples.jsonl"
    row = json.loads(path.read_text().splitlines()[0])
    for key in ("id", "task", "question", "answer", "reference"):
        row[key] = hostile
    row["wrong"]["tokens"] = [hostile] * len(row["wrong"]["tokens"])
    path.write_text(json.dumps(row) + "\n")
    results = demo_folder / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    results.write_text("".join(json.dumps(row | {"label": hostile}) + "\n" for row in rows))
    (cell,) = demo_folder.glob("cells/grpo-*/summary.json")
    cell.write_text(json.dumps(json.loads(cell.read_text()) | {"tasks": {hostile: 0.5}}))
    html = write_report(demo_folder).read_text()
    assert "<script>alert" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 20
    assert html.count("<script>") == 1


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda row: row["wrong"]["mask"].pop(), ["examples.jsonl, row 2", "wrong", "mask has"]),
        (lambda row: row.pop("question"), ["row 2", "question", "required"]),
        (lambda row: row["images"].append("https://example.org/a.png"), ["row 2", "images", "data URL"]),
        (lambda row: row["images"].append("data:image/svg+xml;base64,AAAA"), ["row 2", "images", "data URL"]),
        (lambda row: row["repair"].update(tokens="text"), ["row 2", "repair.tokens", "list"]),
    ],
)
def test_a_row_that_breaks_the_schema_is_named(demo_folder: Path, change, parts: list[str]) -> None:
    path = demo_folder / "examples.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows[1])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError) as caught:
        write_report(demo_folder)
    for part in parts:
        assert part in str(caught.value)


def test_folders_that_hold_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run"):
        write_report(tmp_path)
    with pytest.raises(DataError, match="no run folder: give"):
        write_report([])


@pytest.mark.parametrize(
    ("weighted", "interval", "says"),
    [
        (0.80, (0.77, 0.83), "10.0 points above GRPO"),
        (0.60, (0.57, 0.63), "10.0 points below GRPO"),
        (0.70, (0.67, 0.73), "both end at 70.0%"),
        (0.72, (0.69, 0.75), "intervals overlap"),
    ],
)
def test_the_verdict_says_no_more_than_the_figures(weighted: float, interval: tuple[float, float], says: str) -> None:
    plain = MethodResult(accuracy=0.7, interval=(0.67, 0.73), cpu_seconds=100)
    text = verdict({"GRPO": plain, "DF-GRPO": MethodResult(accuracy=weighted, interval=interval, cpu_seconds=100)})
    assert text is not None
    assert says in text
    assert ("intervals overlap" in text) == (interval[0] <= 0.73 and interval[1] >= 0.67)
    assert verdict({"GRPO": plain}) is None


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(2, 10))
def test_ticks_enclose_the_data_and_are_few(low: float, span: float, count: int) -> None:
    ticks = nice_ticks(low, low + span, count)
    slack = 1e-6 * (abs(low) + span)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= count + 3
    assert ticks == sorted(set(ticks))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_labels_keep_apart_in_the_order_of_their_lines(wanted: list[float]) -> None:
    placed = spread(wanted, gap=10, low=0, high=100)
    assert all(-1e-9 <= y <= 100 + 1e-9 for y in placed)
    ordered = sorted(placed)
    assert all(b - a >= 10 - 1e-6 for a, b in pairwise(ordered))
    assert all(
        (wanted[i] < wanted[j]) <= (placed[i] < placed[j]) for i in range(len(wanted)) for j in range(len(wanted))
    )


def test_the_chart_puts_points_where_the_figures_are() -> None:
    points = [CurvePoint(cpu_seconds=s, accuracy=a) for s, a in ((0, 0.5), (50, 0.6), (100, 0.7))]
    chart = learning_chart([Curve(name="grpo", points=points)], {"start": 0.5})
    assert chart is not None
    first, middle, last = chart.curves[0].points
    assert first.x == chart.left
    assert middle.x - first.x == pytest.approx(last.x - middle.x)
    assert middle.y - first.y == pytest.approx(last.y - middle.y)
    assert last.y < first.y, "more is higher"
    assert chart.levels[0].y == first.y
    long = learning_chart([Curve(name="oracle's repairs (ceiling, not billed)", points=points)], {})
    assert long is not None
    (line,) = long.curves
    assert (line.name, line.value) == ("oracle's repairs", "70.0% (ceiling, not billed)")
    assert long.width - long.right > 7 * len(line.value), "the label has room"
    assert line.points[-1].x <= long.right
    assert chart.curves[0].band == ""
    assert chart.unit == "processor seconds"
    assert learning_chart([], {}) is None


def test_the_chart_shows_gpu_seconds_where_there_are_some_and_wall_seconds_as_the_last_resort() -> None:
    def curve(name: str, **clock: float) -> Curve:
        start = dict.fromkeys(clock, 0.0)
        return Curve(name=name, points=[CurvePoint(accuracy=0.5, **start), CurvePoint(accuracy=0.6, **clock)])

    wall, cpu = curve("verl", wall_seconds=9.0), curve("trl", cpu_seconds=5.0)
    alone, both = learning_chart([wall], {}), learning_chart([wall, cpu], {})
    assert alone is not None
    assert both is not None
    assert (alone.unit, [line.name for line in alone.curves]) == ("wall seconds", ["verl"])
    assert (both.unit, [line.name for line in both.curves]) == ("processor seconds", ["trl"])
    gpu = curve("node", cpu_seconds=5.0, gpu_seconds=40.0)
    on_gpus = learning_chart([cpu, gpu], {})
    assert on_gpus is not None
    assert (on_gpus.unit, [line.name for line in on_gpus.curves]) == ("GPU seconds", ["node"])
    assert learning_chart([Curve(name="x", points=[CurvePoint(accuracy=0.5)])], {}) is None


OWN = {"path": "questions.jsonl"}


def page_of(*runs: Run) -> str:
    page = write_report([run.folder for run in runs], runs[0].folder / "page.html").read_text()
    return page.partition("<main>")[2].partition("Recipes and versions")[0]


def test_an_evaluated_model_has_a_row_in_the_results(tmp_path: Path) -> None:
    run = Run(tmp_path / "eval", EvaluateRecipe(model="runs/first/model", data=OWN))
    figures = {"accuracy": 0.375, "interval": [0.2, 0.6], "problems": 24, "unjudged": 0, "tasks": {"": 0.375}}
    run.finish({"model": "runs/first/model", **figures})
    data = load_report([run.folder])
    assert data.methods == {"eval (runs/first/model)": MethodResult(**figures)}
    assert data.notes == []
    page = page_of(run)
    assert "eval (runs/first/model)" in page
    assert "20.0 % – 60.0 %" in page
    assert "By task" not in page  # its one task has no name


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.25])
def test_runs_without_held_out_accuracy_say_why_and_show_their_reward(tmp_path: Path, reward: float) -> None:
    first = Run(tmp_path / "first", TrainRecipe(data=OWN))
    cut = Run(tmp_path / "cut", TrainRecipe(data=OWN))
    for run in (first, cut):
        for step in range(1, 131):
            run.log(step=step, reward=reward * step / 130, cpu_seconds=float(step))
    first.finish({"method": "grpo", "steps": 130, "cpu_seconds": 9.0})
    taught = Run(tmp_path / "sft", RepairSFTRecipe(data="repairs.jsonl"))
    taught.finish({"examples": 33, "updates": 20, "before": None, "after": None, "cpu_seconds": 3.0})
    none_judged = Run(tmp_path / "eval", EvaluateRecipe(data=OWN))
    none_judged.finish({"model": "nano", "accuracy": None, "interval": [0.0, 1.0], "problems": 0, "tasks": {}})
    data = load_report([run.folder for run in (first, cut, taught, none_judged)])
    assert list(data.rewards) == ["GRPO", "cut"]
    points = data.rewards["GRPO"]
    assert len(points) == 44  # means of three steps, and of the last one alone
    assert points[0] == (3, pytest.approx(reward * 2 / 130))
    assert points[-1] == (130, pytest.approx(reward))
    starts = [f"{run.folder}: {says}" for run, says in zip((first, cut, taught, none_judged), NOTES, strict=True)]
    assert [note.startswith(start) for note, start in zip(data.notes, starts, strict=True)] == [True] * 4, data.notes
    page = page_of(first, cut, taught, none_judged)
    assert "Reward in training" in page
    assert all(start in page for start in starts)
    assert page.count("<circle") == 88


def test_a_check_of_a_repair_model_is_shown_by_its_page_and_its_sentence(tmp_path: Path) -> None:
    recipe = RepairCheckRecipe(repair_model="reference")
    whole, cut = Run(tmp_path / "whole", recipe), Run(tmp_path / "cut", recipe)
    whole.finish({"verdict": "pays", "sentence": "Likely to pay: expected gain +2.0 points."})
    cut.log(step=3, kind="round", drafts=2)
    notes = load_report([whole.folder, cut.folder]).notes
    assert notes == [
        f"{whole.folder}: it has a page of its own, {whole.folder / PAGE}. Likely to pay: expected gain +2.0 points.",
        f"{cut.folder}: unfinished, at step 3. The same command continues it.",
    ]
    assert "Likely to pay" in page_of(whole)


NOTES = (
    "no held-out accuracy, because it had no test_data",
    "unfinished, at step 130",
    "trained on 33 repaired answers, not measured",
    "no held-out accuracy, because no answer was judged",
)


def test_a_model_that_is_never_right_has_a_chart() -> None:
    points = [CurvePoint(cpu_seconds=s, accuracy=0.0) for s in (0, 50)]
    chart = learning_chart([Curve(name="grpo", points=points)], {})
    assert chart is not None
    assert len({y for y, _ in chart.y_ticks}) == len({label for _, label in chart.y_ticks}) >= 2
