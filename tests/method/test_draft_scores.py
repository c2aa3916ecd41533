"""Weights of a wrong answer's tokens from log-probabilities, against the formulas by hand, and their laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from difference_feedback.errors import ConfigError
from difference_feedback.method.draft_scores import DRAFT_WEIGHTS, draft_weights
from difference_feedback.method.pairs import group_rows
from difference_feedback.method.settings import PairSettings
from difference_feedback.runs.recipes import DRAFT_SCORES

LOGPS = st.lists(st.tuples(*[st.floats(-60, 0, width=32)] * 2), min_size=1, max_size=20)
SCORED = {"regroup": False}


def logs(*probabilities: float) -> np.ndarray:
    return np.log(np.array(probabilities, np.float32))


def test_by_hand() -> None:
    repair, policy = logs(0.9, 0.5, 0.01, 0.2), logs(0.9, 0.25, 0.5, 0.4)
    # the same; the repair model likes it more; a fiftieth of 0.5; half of 0.4
    np.testing.assert_allclose(draft_weights(repair, policy), [0.0, 0.0, 0.98, 0.5], atol=1e-6)
    np.testing.assert_allclose(draft_weights(repair), [0.1, 0.5, 0.99, 0.8], atol=1e-6)


def test_small_differences_are_not_lost_to_rounding() -> None:
    """`1 - exp(x)` in float32 would be 0, or off by its last bit, 6e-8."""
    np.testing.assert_allclose(draft_weights(np.float32([-1e-9, -3e-8])), [1e-9, 3e-8], rtol=1e-5)


def test_what_a_model_excludes_has_the_weight_1() -> None:
    impossible = np.float32([-math.inf, -200.0])
    assert draft_weights(impossible).tolist() == [1.0, 1.0]
    assert draft_weights(impossible, logs(0.5, 0.5)).tolist() == [1.0, 1.0]


@given(LOGPS)
def test_laws(pairs: list[tuple[float, float]]) -> None:
    repair, policy = (np.array(side, np.float32) for side in zip(*pairs, strict=True))
    for weights in (draft_weights(repair), draft_weights(repair, policy)):
        assert weights.dtype == np.float32
        assert ((weights >= 0) & (weights <= 1)).all()
    ratio = draft_weights(repair, policy)
    assert (ratio[repair >= policy] == 0).all(), "a token that the repair model finds as probable has no gradient"
    assert (ratio[repair < policy] > 0).all()
    assert (draft_weights(repair) >= ratio - 1e-6).all(), "the policy is never surer than sure"
    order = np.argsort(repair)
    assert (np.diff(draft_weights(repair)[order]) <= 0).all(), "the less probable, the heavier"


@pytest.mark.parametrize("weights", DRAFT_WEIGHTS)
@pytest.mark.parametrize(
    ("changes", "key", "remedy"),
    [
        ({"regroup": True}, "regroup=True", "set regroup=False"),
        ({"num_repairs": 4}, "num_repairs=4", "leave it out"),
        ({"sibling_repairs": True}, "sibling_repairs=True", "weights='mask'"),
        ({"sibling_repairs": True, "num_repairs": 0}, "sibling_repairs=True", "weights='mask'"),
        ({"max_edit_cost": 0.4}, "max_edit_cost=0.4", "leave it out"),
        ({"min_probability": 0.05}, "min_probability=0.05", "leave it out"),
        ({"correct_rollouts": "keep"}, "correct_rollouts='keep'", "leave it out"),
        ({"repaired_ratio": "one"}, "repaired_ratio='one'", "leave it out"),
        ({"sigma": 2.0}, "sigma=2.0", "leave it out"),
        ({"granularity": "step"}, "granularity='step'", "leave it out"),
        ({"alignment_method": "lcs"}, "alignment_method='lcs'", "leave it out"),
        ({"anchor_gaps": False}, "anchor_gaps=False", "leave it out"),
        ({"root_cause": True}, "root_cause=True", "weights='mask'"),
    ],
)
def test_what_acts_on_repairs_is_refused(weights: str, changes: dict, key: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as error:
        PairSettings(**(SCORED | {"weights": weights} | changes)).check()
    assert key in str(error.value)
    assert remedy in str(error.value)


@pytest.mark.parametrize("weights", DRAFT_WEIGHTS)
@pytest.mark.parametrize("num_repairs", [{}, {"num_repairs": 0}])
def test_a_scored_answer_needs_a_repair_model_once_and_no_number_of_repairs(weights: str, num_repairs: dict) -> None:
    settings = PairSettings(weights=weights, **SCORED, **num_repairs, empty_feasible="broadcast", reference="answer")
    settings.check()
    assert (settings.scores_drafts, settings.needs_repairer, settings.passes_per_answer) == (True, True, 1)
    repaired = PairSettings(num_repairs=3)
    assert (repaired.scores_drafts, repaired.passes_per_answer) == (False, 3)


def test_recipes_know_their_names() -> None:
    assert DRAFT_SCORES == DRAFT_WEIGHTS


@pytest.mark.parametrize(("empty", "unscored"), [("drop", 0.0), ("broadcast", 1.0)])
def test_right_answers_weigh_one_and_unscored_ones_go_by_empty_feasible(empty: str, unscored: float) -> None:
    settings = PairSettings(weights="log_ratio", empty_feasible=empty, **SCORED)
    rows = group_rows([1.0, 0.0, None, 0.0], {1: None}, settings)
    assert [(row.rollout, row.is_repair, row.weight) for row in rows] == [
        (0, False, 1.0),
        (1, False, None),
        (3, False, unscored),
    ]
