"""Dose and response: the rule finds a known plane, its intervals hold, the verdict follows its laws."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import dose
from difference_feedback.bench.statistics import paired_t
from difference_feedback.errors import DataError
from difference_feedback.report.dose import Dose, DosePoint, MeasuredShare, load_dose
from difference_feedback.report.dose_chart import dose_chart
from difference_feedback.report.dose_verdict import Placed, judge

PLANE = np.array([-6.0, 1.0, 13.0])
SHARES = ((0.4, 0.75), (0.7, 0.5), (0.7, 0.75), (0.7, 1.0), (1.0, 0.5), (1.0, 0.75), (1.0, 1.0))
FLAT = MeasuredShare(3.0, 3.0, 3.0)


def expected(right: float, clean: float) -> float:
    return float(PLANE @ (1.0, right, right * clean))


def points(seeds: int, rng: np.random.Generator, noise: float, of_seed: float) -> list[DosePoint]:
    shift = rng.normal(0, of_seed, seeds)
    made = []
    for right, clean in SHARES:
        gains = expected(right, clean) + shift + rng.normal(0, noise, seeds)
        made.append(DosePoint(right, clean, *paired_t(gains[:, None]), {str(i): float(g) for i, g in enumerate(gains)}))
    return made


def exact() -> Dose:
    return Dose(points(3, np.random.default_rng(0), 0.0, 0.0), FLAT)


def test_a_plane_without_noise_is_found_exactly() -> None:
    assert exact().coefficients == pytest.approx(PLANE, abs=1e-9)
    gain = exact().gain(0.85, 0.6)
    assert gain.value == pytest.approx(expected(0.85, 0.6), abs=1e-9)
    assert gain.high - gain.low < 1e-6
    line = exact().break_even(0.85)
    assert line is not None
    assert expected(0.85, line) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("of_seed", [0.0, 1.0, 3.0])
def test_the_interval_covers_the_true_gain_also_where_seeds_share_their_baseline(of_seed: float) -> None:
    """95 of 100 over 400 simulated measurements; the tolerance is three standard errors, and a little for few seeds."""
    rng, hits, places = np.random.default_rng(1), 0, ((0.9, 0.9), (0.55, 0.7), (1.0, 0.5))
    for i in range(400):
        right, clean = places[i % 3]
        gain = Dose(points(3, rng, 1.0, of_seed), FLAT).gain(right, clean)
        hits += gain.low <= expected(right, clean) <= gain.high
    assert 0.915 <= hits / 400 <= 0.985


def test_what_was_measured_with_error_is_expected_with_error() -> None:
    known = exact().gain(0.8, 0.7)
    measured = exact().gain(MeasuredShare(0.8, 0.7, 0.9), MeasuredShare(0.7, 0.6, 0.8))
    by_right, by_clean = (1.0 + 13 * 0.7) * 0.1, 13 * 0.8 * 0.1  # half-widths, by the plane's own slopes
    assert measured.value == known.value
    assert measured.high - measured.value == pytest.approx(np.hypot(by_right, by_clean), rel=1e-6)


def test_overhead_is_priced_in_doublings_of_compute() -> None:
    free, twice = exact().gain(1.0, 1.0), exact().gain(1.0, 1.0, overhead=1.0)
    assert free.value - twice.value == pytest.approx(3.0)
    affordable = exact().affordable(0.9, 0.8)
    assert exact().gain(0.9, 0.8, affordable).value == pytest.approx(0, abs=1e-9)
    assert exact().affordable(0.4, 0.4) == 0


@pytest.mark.parametrize(("right", "clean", "kind"), [(1.0, 1.0, "pays"), (0.5, 0.3, "costs"), (0.8, 0.5, "open")])
def test_the_verdict_is_the_side_of_the_line(right: float, clean: float, kind: str) -> None:
    noisy = Dose(points(3, np.random.default_rng(2), 1.0, 0.5), FLAT)
    shares = [MeasuredShare(share, share - 0.05, min(share + 0.05, 1.0)) for share in (right, clean)]
    verdict = judge(noisy, Placed("m", *shares, overhead=0.0))
    assert verdict.kind == kind
    assert bool(verdict.remedies) == (kind != "pays")


def test_a_remedy_moves_the_model_to_where_training_pays() -> None:
    noisy = Dose(points(3, np.random.default_rng(2), 1.0, 0.5), FLAT)
    verdict = judge(noisy, Placed("m", MeasuredShare(0.9, 0.85, 0.95), MeasuredShare(0.4, 0.35, 0.45), overhead=0.3))
    clean = int(verdict.remedies[0].split(" %")[0]) / 100
    assert noisy.gain(0.9, clean, 0.3).low > 0 >= noisy.gain(0.9, clean - 0.01, 0.3).low


def test_where_no_share_is_sure_to_pay_the_remedy_breaks_even() -> None:
    noisy = Dose(points(2, np.random.default_rng(4), 12.0, 12.0), FLAT)
    low = judge(noisy, Placed("m", MeasuredShare(0.9, 0.85, 0.95), MeasuredShare(0.1, 0.05, 0.15)))
    assert noisy.gain(1.0, 1.0).verdict == "open"
    assert low.goal == "break even"
    clean = int(low.remedies[0].split(" %")[0]) / 100
    assert noisy.gain(0.9, clean).value > 0 >= noisy.gain(0.9, clean - 0.01).value
    assert judge(noisy, Placed("m", MeasuredShare(1.0, 1.0, 1.0), MeasuredShare(1.0, 1.0, 1.0))).remedies == []


def test_where_nobody_knows_what_is_clean_both_ends_are_given() -> None:
    verdict = judge(exact(), Placed("m", MeasuredShare(0.9, 0.85, 0.95), None))
    assert verdict.ends is not None
    assert (verdict.kind, verdict.ends[0].verdict, verdict.ends[1].verdict) == ("open", "costs", "pays")
    few = judge(exact(), Placed("m", MeasuredShare(0.1, 0.05, 0.15), None))
    assert few.kind == "costs", "even if all are clean"


def test_the_remedy_says_what_is_missing() -> None:
    """More answers where only the model's own interval is wide; no share that nobody measured; an affordable step."""
    wide = Placed("m", MeasuredShare(0.8, 0.4, 1.0), MeasuredShare(0.7, 0.3, 0.9))
    verdict = judge(exact(), wide)
    assert verdict.kind == "open"
    assert exact().gain(0.8, 0.7).verdict == "pays"
    assert [remedy for remedy in verdict.remedies if "more wrong answers" in remedy] == verdict.remedies
    unknown = judge(exact(), Placed("m", MeasuredShare(0.8, 0.7, 0.9), None))
    assert unknown.kind == "open"
    assert "instead of" not in unknown.sentence
    assert judge(exact(), Placed("m", MeasuredShare(0.8, 0.7, 0.9), None, 50.0)).kind in ("open", "costs")
    for overhead in (10.0, 1e6, 1e300):
        dear = judge(exact(), Placed("m", MeasuredShare(0.9, 0.9, 0.9), MeasuredShare(0.9, 0.9, 0.9), overhead))
        [remedy] = [remedy for remedy in dear.remedies if "a step" in remedy]
        assert len(remedy) < 80
        times = float(remedy.removeprefix("a step that costs ").partition(" times")[0])
        assert exact().gain(0.9, 0.9, times - 1).low > -0.1, "rounded to three digits"


def test_the_shipped_points_make_a_chart_and_every_name_is_escaped() -> None:
    shipped = load_dose()
    for clean in (None, MeasuredShare(0.5, 0.4, 0.6)):
        svg = dose_chart(shipped, Placed("</text><script>alert(1)</script>", MeasuredShare(0.05, 0, 0.2), clean, 0.4))
        root = ElementTree.fromstring(svg)
        assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
            "svg",
            "rect",
            "path",
            "text",
            "circle",
            "title",
        }
    assert len(list(ElementTree.fromstring(dose_chart(shipped)).iter("{http://www.w3.org/2000/svg}circle"))) == len(
        shipped.points
    )


def test_points_are_made_from_rows_of_a_bench_paired_by_seed(tmp_path: Path) -> None:
    """The problems of the curve are easier than those at its end, by two points."""
    rng, rows = np.random.default_rng(3), [{"method": "base", "seed": 0, "accuracy": 0.5, "curve": []}]
    for seed in range(3):
        base = 0.6 + rng.normal(0, 0.02)
        curve = [[0.0, 0.52, 420], *([s, 0.02 + base - 0.03 * np.log2(300 / s), 420] for s in (40.0, 75.0, 150.0))]
        curve.append([300.0, base, 2520])
        rows.append({"method": "grpo", "seed": seed, "accuracy": base, "curve": curve})
        for right, clean in SHARES:
            name = f"oracle_{100 * right:.0f}_{100 * clean:.0f}"
            rows.append({"method": name, "seed": seed, "accuracy": base + expected(right, clean) / 100, "curve": []})
    rows.append({"method": "oracle_40_50", "seed": 9, "accuracy": 0.9, "curve": []})  # no run of GRPO has its seed
    values = dose.dose_of([row | {"budget_cpu_seconds": 300.0, "settings": {}} for row in rows])
    path = tmp_path / "dose.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    made = load_dose(path)
    assert len(made.points) == len(SHARES)
    assert made.coefficients == pytest.approx(PLANE, abs=1e-3)
    assert made.slope.value == pytest.approx(3.0, abs=1e-3)
    path.write_text(json.dumps(values | {"points": values["points"][:2]}), encoding="utf-8")
    with pytest.raises(DataError, match="three points"):
        load_dose(path)
