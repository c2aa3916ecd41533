"""The figures of a study against SciPy's paired t-test, and the words that they become."""

import pytest
from scipy import stats
from synthetic import FAIR, row

from context import dose_rule, dose_sentence
from difference_feedback.bench.tables import points
from difference_feedback.report.dose import Dose, dose_from
from study import Kept, Study, verdict
from tables import baseline_of, dose_table, tuning_table

ROWS = [row(name, seed) for seed in range(5) for name in FAIR if name != "base" or seed == 0]
STUDY = Study("bench_fair", ROWS)


@pytest.mark.parametrize("method", [name for name in FAIR if name not in ("base", "grpo")])
def test_differences_are_those_of_the_paired_t_test(method: str) -> None:
    against = baseline_of(method)
    values = [[100 * each["accuracy"] for each in STUDY.of(name)] for name in (method, against)]
    gaps = [a - b for a, b in zip(*values, strict=True)]
    low, high = stats.ttest_rel(*values).confidence_interval(0.95)
    assert float(STUDY.points(method, against)) == pytest.approx(sum(gaps) / 5, abs=0.051)
    pair = STUDY.pair(method, against)
    assert [100 * pair["low"], 100 * pair["high"]] == pytest.approx([low, high], abs=1e-6)
    assert STUDY.outcome(method, against) == int(low > 0) - int(high < 0)
    assert STUDY.interval(method, against) == f"{low:+.1f} to {high:+.1f}".replace("-0.0", "+0.0")


def test_sentences_name_the_side_and_say_when_nothing_is_measurable() -> None:
    assert STUDY.ends("oracle", "grpo").startswith(STUDY.points("oracle", "grpo").lstrip("+") + " points above GRPO (")
    assert STUDY.ends("grpo", "oracle").split(" points ")[1].startswith("below oracle (")
    assert STUDY.ends("sibling", "grpo").endswith("no measurable difference)")
    assert "measurable" not in STUDY.ends("oracle", "grpo")


def test_a_method_without_all_seeds_is_not_finished() -> None:
    study = Study("bench_fair", [each for each in ROWS if (each["method"], each["seed"]) != ("gspo", 4)])
    assert not study.has("gspo")
    assert study.has("grpo", "base", "df_gspo")
    assert study.pair("df_gspo", "gspo") is None
    assert (study.done, study.wanted, study.finished) == (4, 5, False)
    assert "4 of 5" in study.state
    assert Study("bench_fair", ROWS[:-1], partial=True).has("gspo")
    assert STUDY.state == ""
    assert Study("bench_fair", []).state.endswith("makes them.")
    assert Study("no such plan", ROWS).methods == []


def test_nothing_rounds_to_minus_zero() -> None:
    assert (points(-0.0004), points(0.023), points(-0.023)) == ("+0.0", "+2.3", "-2.3")


def test_verdicts_do_not_depend_on_order_and_cover_all_outcomes() -> None:
    some = [[], [0], [1], [-1], [0, 1], [0, -1], [1, -1], [1, 0, -1]]
    assert len({verdict(outcomes) for outcomes in some}) == len(some) - 1, "mixed signs say the same with and without 0"
    assert all(verdict(outcomes) == verdict([*outcomes, *outcomes[::-1]]) for outcomes in some)


def test_the_best_rate_of_each_method_is_bold() -> None:
    rows = [
        {"method": name, "label": name, "accuracy": accuracy, "settings": {"trl.learning_rate": rate}}
        for name, rate, accuracy in (("a", 1e-4, 0.6), ("a", 2e-4, 0.7), ("b", 1e-4, 0.5))
    ]
    lines = tuning_table([{**rows[0], "method": "base", "settings": {}}, *rows]).splitlines()
    assert lines[0] == "|  | 0.0001 | 0.0002 |"
    assert lines[2:] == ["| a | 60.0 | **70.0** |", "| b | **50.0** |  |"]


def test_dose_points_stand_by_their_shares() -> None:
    measured = dose_rule(Kept()).points
    cells = [cell.strip() for line in dose_table(measured).splitlines()[2:] for cell in line.split("|")]
    assert sum(cell.startswith(("+", "-")) for cell in cells) == len(measured)


def dose(gains: list[tuple[float, float, float]]) -> Dose:
    """The rule of points `(right, clean, gain)`, each with two seeds that differ little."""
    by_seed = [{"0": gain - 0.01, "1": gain + 0.01} for *_, gain in gains]
    measured = [
        {"right": right, "clean": clean, "gain": gain, "low": gain, "high": gain, "by_seed": seeds}
        for (right, clean, gain), seeds in zip(gains, by_seed, strict=True)
    ]
    return dose_from({"points": measured, "slope": 2.0, "slope_interval": [1.9, 2.1]})


def test_the_sentence_on_dose_is_the_rule_solved_by_hand() -> None:
    def exact(a: float, b: float, c: float) -> list[tuple[float, float, float]]:
        places = [(0.4, 0.5), (0.4, 1.0), (0.7, 0.75), (1.0, 0.5), (1.0, 1.0)]
        return [(right, clean, a + b * right + c * right * clean) for right, clean in places]

    reached = dose_sentence(dose(exact(-2.88, 0.0, 6.0)))  # 0 at clean = 2.88 / (6 * 0.8)
    assert "80 % of the repairs are right, DF gains on GRPO if at least 60 % of these" in reached
    assert 60 < int(reached.split("excludes 0 from ")[1].split(" %")[0]) < 70
    perfect = dose_sentence(dose(exact(-5.4, 0.0, 6.0)))  # out of reach at 0.8; at 1, 0 at clean = 0.9
    assert "80 % of the repairs are right, DF does not gain" in perfect
    assert "Where 100 % of the repairs are right, DF gains on GRPO if at least 90 % of these" in perfect
    assert "however few of these are clean" in dose_sentence(dose(exact(1.0, 0.0, 2.0)))
