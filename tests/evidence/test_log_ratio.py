"""The figures of scored drafts, by hand and against a plain loop."""

import numpy as np
import pytest

from log_ratio import average_precision, figures
from script_tables import log_ratio_table
from study import Kept

ERRORS = np.array([1.0, 0.0, 1.0, 0.0, 0.0])


def plain(weights: np.ndarray, errors: np.ndarray) -> float:
    """For each error, the share of errors among the tokens that weigh at least as much."""
    return float(np.mean([errors[weights >= weight].mean() for weight in weights[errors]]))


def test_average_precision_by_hand() -> None:
    # In the order of weights: an error, none, an error, ...
    weights = np.array([0.9, 0.8, 0.7, 0.1, 0.0])
    assert average_precision(weights, ERRORS > 0) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.zeros(5), ERRORS > 0) == pytest.approx(0.4), "without weights, the share of errors"
    assert average_precision(ERRORS, ERRORS > 0) == 1.0


def test_average_precision_against_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        errors = rng.random(30) < 0.3
        errors[0] = True
        weights = rng.integers(0, 6, 30) / 5  # with ties
        assert average_precision(weights, errors) == pytest.approx(plain(weights, errors))


def test_figures_of_soft_weights_and_of_none() -> None:
    roots = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
    shown = figures([np.array([0.5, 0.25]), np.array([0.25, 0.0, 0.0])], ERRORS, roots, 0.1)
    assert shown["precision"] == pytest.approx(0.75)
    assert shown["recall"] == pytest.approx(0.375)
    assert shown["root_recall"] == pytest.approx(0.5)
    assert shown["root_average_precision"] == 1.0
    assert shown["density"] == pytest.approx(0.2)
    assert figures([np.zeros(5)], ERRORS, roots, 0.0)["precision"] == 0.0


def test_the_table_is_of_means_over_seeds() -> None:
    results = Kept().values("log_ratio")
    table = log_ratio_table(results)
    row = next(line for line in table.splitlines() if line.startswith("| `doubt` of stage 2"))
    mean = np.mean([run["ways"]["doubt"]["recall"] for run in results["stage 2"]])
    assert row.split("|")[3].strip() == f"{mean:.2f}"
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
