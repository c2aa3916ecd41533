"""The metrics that have a range, at a run's start and end, and what the page says of them."""

from pathlib import Path

import pytest

from difference_feedback.report.collect import load_report
from difference_feedback.report.health import kind_of, marked, readings
from difference_feedback.report.page import write_report
from difference_feedback.runs.folder import Run
from difference_feedback.runs.recipes import TrainRecipe


def test_means_of_the_first_and_the_last_fifth_are_compared_with_the_range() -> None:
    rows = [{"step": i, "df/feasible_share": i / 10, "df/edit_cost": None, "loss": 1.0} for i in range(10)]
    [reading] = readings(rows, "df-grpo")
    assert reading.name == "df/feasible_share"
    assert (reading.first, reading.last) == (pytest.approx(0.05), pytest.approx(0.85))
    assert reading.problem is None
    [reading] = readings(rows[:4], "df-grpo")
    assert (reading.last, reading.problem) == (pytest.approx(0.3), "below")
    assert readings(rows, "grpo") == []


def test_of_a_family_those_out_of_range_are_shown_or_else_one() -> None:
    quiet = {"df/refused/empty": 0.0, "df/refused/too_long": 0.0}
    assert [reading.name for reading in readings([quiet], "df-grpo")] == ["df/refused/empty"]
    loud = quiet | {"df/refused/missing": 2.0, "df/refused/wrapped": 1.0, "df/refused/unreadable": True}
    shown = readings([loud, loud], "df-grpo")
    assert {(reading.name, reading.last, reading.problem) for reading in shown} == {
        ("df/refused/missing", 2.0, "above"),
        ("df/refused/wrapped", 1.0, "above"),
    }


def test_numbers_that_are_none_are_left_out() -> None:
    assert readings([{"df/pairs": value} for value in (None, "3", float("nan"), 1e300, [2])], "df-grpo") == []


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [
        ({"kind": "train", "method": "df-grpo"}, "df-grpo"),
        ({"kind": "train", "method": "df-grpo", "host": "verl"}, "verl"),
        ({"kind": "train", "method": "grpo", "host": "trl"}, "grpo"),
        ({"kind": "repair-rl"}, "repair-rl"),
        ({"kind": "bench"}, None),
    ],
)
def test_the_recipe_says_what_logs(recipe: dict[str, str], kind: str | None) -> None:
    assert kind_of(recipe) == kind


def test_the_page_says_in_words_what_is_out_of_range_and_what_to_do(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", TrainRecipe(method="df-grpo", repair_model="nano"))
    for step in range(5):
        run.log(step=step, reward=0.5, **{"df/feasible_share": 0.3, "df/pairs": 4.0, "df/wrong_share": 0.5})
    data = load_report([run.folder])
    assert [reading.name for reading in data.health["run"]] == ["df/feasible_share", "df/wrong_share", "df/pairs"]
    page = write_report(run.folder).read_text(encoding="utf-8")
    assert "1 of 3 metrics out of range: df/feasible_share" in page
    assert "<b>below its range</b>" in page
    assert page.count("within its range") == 2
    assert "<code>trl.num_repairs</code>" in page


def test_texts_of_the_registry_are_escaped_before_they_are_marked() -> None:
    assert str(marked("`a<b>` and [c & d](e.md#f)")) == "<code>a&lt;b&gt;</code> and c &amp; d"
