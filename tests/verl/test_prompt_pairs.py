"""One prompt's answers and repairs: what stays, and its weights. Needs neither verl nor Ray."""

from typing import Any

import numpy as np
import pytest

from difference_feedback.errors import ConfigError
from difference_feedback.verl.prompt_pairs import Answer, pair_prompt, references_of
from difference_feedback.verl.settings import Settings

ANSWERS = [
    Answer([1, 2, 3, 9], "right", 1.0),
    Answer([1, 5, 3, 9], "wrong", 0.0),
    Answer([7, 7, 7], "wrong and past repair", 0.0),
    Answer([4], "nobody judged it", None),
]
CANDIDATES = {
    1: [Answer([8, 8, 3, 9], "right, two edits", 1.0), Answer([1, 2, 3, 9], "right, one edit", 1.0)],
    2: [Answer([7, 7], "still wrong", 0.0)],
}


def settings(**changes: Any) -> Settings:
    return Settings(repair_model="nano", **changes)


def rows(changes: dict[str, Any], by_critic: bool) -> dict[tuple[int, bool], Any]:
    pairs = pair_prompt(ANSWERS, CANDIDATES, settings(**changes), lambda ids: [f"{i}." for i in ids], by_critic)
    return {(row.index, row.is_repair): None if row.weights is None else row.weights.tolist() for row in pairs.rows}


@pytest.mark.parametrize(
    ("changes", "by_critic", "expected"),
    [
        ({}, False, {(0, False): None, (1, False): [0, 1, 0, 0], (1, True): [0, 1, 0, 0], (2, False): None}),
        (
            {"empty_feasible": "broadcast"},
            False,
            {(0, False): None, (1, False): [0, 1, 0, 0], (1, True): [0, 1, 0, 0], (2, False): [1, 1, 1]},
        ),
        (
            {"correct_rollouts": "keep"},
            False,
            {(0, False): [1] * 4, (1, False): [0, 1, 0, 0], (1, True): [0, 1, 0, 0], (2, False): None},
        ),
        ({"weights": "ones"}, False, {(0, False): None, (1, False): [1] * 4, (1, True): [1] * 4, (2, False): None}),
        ({}, True, {(0, False): [1] * 4, (1, False): [0, 1, 0, 0], (2, False): [0, 0, 0]}),
        ({"empty_feasible": "broadcast"}, True, {(0, False): [1] * 4, (1, False): [0, 1, 0, 0], (2, False): [1, 1, 1]}),
    ],
)
def test_rows_and_weights(changes: dict[str, Any], by_critic: bool, expected: dict[tuple[int, bool], Any]) -> None:
    """The last answer, which nobody judged, leaves in every case."""
    assert rows(changes, by_critic) == expected | {(3, False): None}


def test_counts() -> None:
    counts = pair_prompt(ANSWERS, CANDIDATES, settings(), lambda ids: ["x"] * len(ids), False).counts
    assert counts == {"answers": 4, "wrong": 2, "unjudged": 1, "requested": 2, "pairs": 1, "edit_cost": 0.25}


def test_steps_and_soft_weights_reach_the_rows() -> None:
    steps = pair_prompt(ANSWERS, CANDIDATES, settings(granularity="step"), lambda ids: ["a ", "b. ", "c ", "d"], False)
    assert [row.weights.tolist() for row in steps.rows if row.index == 1 and row.weights is not None] == [
        [1, 1, 0, 0]
    ] * 2
    (soft,) = (
        row.weights
        for row in pair_prompt(ANSWERS, CANDIDATES, settings(sigma=1.0), lambda ids: ["x"] * len(ids), True).rows
        if row.index == 1
    )
    np.testing.assert_allclose(soft, np.exp([-1, 0, -1, -2]), rtol=1e-6)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("sibling", {1: "right", 2: "right"}),
        ("answer", {1: "42", 2: "42"}),
        ("sibling_then_answer", {1: "right", 2: "right"}),
    ],
)
def test_references(source: str, expected: dict[int, str]) -> None:
    assert references_of(ANSWERS, "42", settings(reference=source), np.random.default_rng(0)) == expected


def test_without_a_right_answer_the_truth_stands_in_or_nothing() -> None:
    rng = np.random.default_rng(0)
    assert references_of(ANSWERS[1:3], "42", settings(), rng) == {0: "42", 1: "42"}
    assert references_of(ANSWERS[1:3], "42", settings(reference="sibling"), rng) == {}
    assert references_of(ANSWERS[1:3], None, settings(), rng) == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repair_model": None}, "repair_model is missing"),
        ({"num_repairs": 0}, "at least one"),
        ({"weights": "half"}, "choose one of mask, ones"),
        ({"reference": "teacher"}, "choose one of sibling_then_answer"),
        ({"sigma": -1.0}, "positive number"),
        ({"via": "vllm"}, "its url or model"),
    ],
)
def test_settings_that_cannot_work(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings(**{"repair_model": "nano", **changes})
