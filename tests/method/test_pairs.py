"""One prompt's answers and repairs -> rows with weights and advantages, against a slow and obvious reference."""

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method.ablations import ABLATIONS
from difference_feedback.method.alignment import align
from difference_feedback.method.groups import SkipReason
from difference_feedback.method.pairs import (
    Answer,
    PromptPairs,
    References,
    choose_pair,
    choose_references,
    group_rows,
    pair_prompt,
)
from difference_feedback.method.repairs import Limits, Repair, RepairRequest, ask, usable_repairs
from difference_feedback.method.settings import PairSettings

ANSWERS = [
    Answer([1, 2, 3, 9], 1.0, "right"),
    Answer([1, 5, 3, 9], 0.0, "wrong"),
    Answer([7, 7, 7], 0.0, "wrong and past repair"),
    Answer([4], None, "nobody judged it"),
]
CANDIDATES = {
    1: [Answer([8, 8, 3, 9], 1.0), Answer([1, 2, 3, 9], 1.0)],  # right by two edits, by one
    2: [Answer([7, 7], 0.0)],  # still wrong
}
ONE_EDIT = [0, 1, 0, 0]


def texts(ids: Any) -> list[str]:
    return [f"{i}. " if i % 3 == 0 else f"{i} " for i in ids]


def run(answers: list[Answer], candidates: dict[int, list[Answer]], seed: int = 0, **changes: Any) -> PromptPairs:
    chosen = PairSettings(**changes)
    chosen.check()
    rng = np.random.default_rng(seed)
    references = choose_references([a.reward for a in answers], [a.text for a in answers], None, chosen, rng)
    return pair_prompt(answers, references, candidates, chosen, texts)


def weights_of(pairs: PromptPairs) -> dict[tuple[int, bool], list[float]]:
    return {(member.row, member.is_repair): member.weights.tolist() for member in pairs.members}


PAIR = {(1, False): ONE_EDIT, (1, True): ONE_EDIT}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, PAIR),
        ({"num_repairs": 7}, PAIR),  # the host's: it asks for them
        ({"empty_feasible": "broadcast"}, PAIR | {(2, False): [1, 1, 1]}),
        ({"correct_rollouts": "keep"}, PAIR | {(0, False): [1] * 4}),
        ({"weights": "ones"}, {(1, False): [1] * 4, (1, True): [1] * 4}),
        ({"weights": "inverted"}, {(1, False): [1, 0, 1, 1], (1, True): [1, 0, 1, 1]}),
        ({"weights": "wrong_only"}, PAIR | {(1, True): [0] * 4}),
        ({"weights": "repair_only"}, PAIR | {(1, False): [0] * 4}),
        ({"granularity": "step"}, {(1, False): [1, 1, 1, 0], (1, True): [1, 1, 1, 0]}),
        ({"alignment_method": "lcs"}, PAIR),
        ({"max_edit_cost": 0.24}, {}),
        ({"max_edit_cost": 0.25}, PAIR),
        ({"reward_threshold": 2.0}, {}),  # nobody is right
        ({"reward_threshold": -1.0}, {}),  # nobody is wrong
        ({"sibling_repairs": True, "max_edit_cost": 0.5}, PAIR),
        ({"sibling_repairs": True}, PAIR | {(2, False): [1] * 3, (2, True): [1] * 4}),
        ({"regroup": False}, {(0, False): [1] * 4, (1, False): ONE_EDIT, (2, False): [0] * 3}),
        (
            {"regroup": False, "empty_feasible": "broadcast"},
            {(0, False): [1] * 4, (1, False): ONE_EDIT, (2, False): [1] * 3},
        ),
        (
            {"regroup": False, "correct_rollouts": "keep"},
            {(0, False): [1] * 4, (1, False): ONE_EDIT, (2, False): [0] * 3},
        ),
        ({"regroup": False, "weights": "ones"}, {(0, False): [1] * 4, (1, False): [1] * 4, (2, False): [1] * 3}),
    ],
)
def test_rows_and_weights(changes: dict[str, Any], expected: dict[tuple[int, bool], list[float]]) -> None:
    """The last answer, which nobody judged, leaves in every case."""
    assert weights_of(run(ANSWERS, CANDIDATES, **changes)) == expected


def test_soft_weights_root_cause_and_anchors_reach_the_rows() -> None:
    soft = weights_of(run(ANSWERS, CANDIDATES, sigma=1.0))
    np.testing.assert_allclose(soft[1, False], np.exp([-1, 0, -1, -2]), rtol=1e-6)
    answers, candidates = [ANSWERS[0], Answer([5, 2, 6, 9], 0.0)], {1: [Answer([1, 2, 3, 9], 1.0)]}
    assert weights_of(run(answers, candidates, root_cause=True)) == {(1, False): [1, 0, 0, 0], (1, True): [1, 0, 1, 0]}
    candidates = {1: [Answer([5, 2, 6, 8, 9], 1.0)]}
    assert weights_of(run(answers, candidates))[1, False] == [0, 0, 0, 1]
    assert weights_of(run(answers, candidates, anchor_gaps=False))[1, False] == [0] * 4


def test_random_weights_depend_on_seed_place_and_answer_alone() -> None:
    drawn = [run(ANSWERS, CANDIDATES, weights="random", reference_seed=seed) for seed in (0, 0, *range(1, 9))]
    kept = [weights_of(pairs) for pairs in drawn]
    assert kept[0] == kept[1]
    assert len({str(weights) for weights in kept}) > 2
    assert all(sum(weights) == 1 for pairs in kept for weights in pairs.values())
    chosen = PairSettings(weights="random")
    places = {
        str(choose_pair([1, 5, 3, 9], CANDIDATES[1], [place], chosen, texts).weights)  # type: ignore[union-attr]
        for place in range(9)
    }
    assert len(places) > 2


def test_improbable_repairs_make_way_for_the_next() -> None:
    candidates = {1: [CANDIDATES[1][0], replace(CANDIDATES[1][1], lowest_probability=0.01)]}
    assert run(ANSWERS, candidates, min_probability=0.0).pairs[1].edit_cost == 0.25
    assert run(ANSWERS, candidates, min_probability=0.01).pairs[1].edit_cost == 0.25
    assert run(ANSWERS, candidates, min_probability=0.02).pairs[1].edit_cost == 0.5


def test_siblings_stand_behind_repairs_of_equal_cost() -> None:
    candidates = {1: [Answer([1, 6, 3, 9], 1.0)]}
    assert run(ANSWERS, candidates, sibling_repairs=True).pairs[1].repair is candidates[1][0]
    without = run(ANSWERS, {}, sibling_repairs=True, num_repairs=0)
    assert without.pairs[1].repair is without.pairs[2].repair is ANSWERS[0]


@pytest.mark.parametrize("scale", [True, False])
def test_advantages_are_those_of_the_rows_own_group(scale: bool) -> None:
    for changes in ({}, {"empty_feasible": "broadcast"}, {"correct_rollouts": "keep"}, {"regroup": False}):
        answers = [1.0, 0.0, 0.5, math.nan]
        rows = group_rows(answers, {1: 1.0}, PairSettings(**changes), scale)
        rewards = np.array([1.0 if row.is_repair else answers[row.rollout] for row in rows])
        spread = rewards.std(ddof=1) + 1e-4 if scale else 1.0
        np.testing.assert_allclose([row.advantage for row in rows], (rewards - rewards.mean()) / spread)


# ---- references ----


@pytest.mark.parametrize(
    ("source", "rows", "annotated", "expected"),
    [
        ("sibling", [0, 1, 2], "42", {1: "right", 2: "right"}),
        ("answer", [0, 1, 2], "42", {1: "42", 2: "42"}),
        ("sibling_then_answer", [0, 1, 2], "42", {1: "right", 2: "right"}),
        ("sibling_then_answer", [1, 2], "42", {0: "42", 1: "42"}),
        ("sibling", [1, 2], "42", SkipReason.NO_REFERENCE),
        ("answer", [0, 1], None, SkipReason.NO_REFERENCE),
        ("sibling_then_answer", [1, 2], None, SkipReason.NO_REFERENCE),
        ("sibling_then_answer", [0], "42", SkipReason.NO_WRONG_ANSWER),
        ("sibling_then_answer", [0, 3], "42", SkipReason.NO_WRONG_ANSWER),
        ("sibling_then_answer", [3], "42", SkipReason.UNJUDGED),
    ],
)
def test_references(source: str, rows: list[int], annotated: str | None, expected: Any) -> None:
    answers = [ANSWERS[i] for i in rows]
    rewards, words = [a.reward for a in answers], [a.text for a in answers]
    chosen = PairSettings(reference=source)  # type: ignore[arg-type]
    references = choose_references(rewards, words, annotated, chosen, np.random.default_rng(0))
    assert references == ((expected, None) if isinstance(expected, dict) else ({}, expected))


def test_each_wrong_answer_draws_its_own_reference_uniformly() -> None:
    rng, counts = np.random.default_rng(0), Counter[str]()
    for _ in range(500):
        counts.update(choose_references([1, 0, 1, 0], list("abcd"), None, PairSettings(), rng).texts.values())
    assert counts.keys() == {"a", "c"}
    assert abs(counts["a"] - counts["c"]) < 100


def test_usable_repairs_and_the_reasons_of_the_others() -> None:
    limits = Limits(frozenset({3}), vocabulary=10, max_length=4)
    repairs = [Repair(list(ids), "") for ids in ([], [3], [1, 2], [10], [-1], [1] * 5, [4])]
    usable, refused = usable_repairs(repairs, 9, limits)
    assert [repair.token_ids for repair in usable] == [[1, 2], [4]]
    assert refused == {"empty": 1, "vision_token": 1, "out_of_range": 2, "too_long": 1, "missing": 2}
    assert usable_repairs([], 0, limits)[1].total() == 0


class Returns:
    def __init__(self, *answers: Any) -> None:
        self.answers = answers

    def repair(self, requests: Any, num_samples: int = 1) -> Any:
        return self.answers[0] if len(self.answers) == 1 else list(self.answers)


TWO = [RepairRequest([], [], [1], "")] * 2


def test_repairs_are_taken_as_tensors_and_arrays_and_none_as_no_candidates() -> None:
    repairer = Returns([Repair(torch.tensor([1, 2]), ""), Repair(np.array([3]), "")], None)  # type: ignore[arg-type]
    [first, second] = ask(repairer, TWO, 2)
    assert [repair.token_ids for repair in first] == [[1, 2], [3]]
    assert all(type(i) is int for repair in first for i in repair.token_ids)
    assert second == []
    assert ask(repairer, [], 2) == []


@pytest.mark.parametrize(
    ("answers", "place"),
    [
        ((None,), "NoneType for 2 requests"),
        (([],), "0 lists for 2 requests"),
        (([], [[1, 2]]), "for request 1"),
        (([], [None]), "for request 1"),
        ((Repair([1], ""), []), "for request 0"),
        (([Repair([1.5], "")], []), "for request 0"),  # type: ignore[list-item]
        (([Repair("text", "")], []), "for request 0"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_list_of_repairs_is_named(answers: Any, place: str) -> None:
    with pytest.raises(
        DataError, match=rf"Returns\.repair .*{place}; .*(Repair\(token_ids, text\)|one list of repairs)"
    ):
        ask(Returns(*answers), TWO, 2)


def test_which_of_several_ends_an_answer_has_is_no_repair() -> None:
    limits = Limits(frozenset(), vocabulary=10, max_length=4, end_ids=frozenset({8, 9}))
    repairs = [Repair([1, 8], ""), Repair([1, 9], ""), Repair([1], "")]

    def with_draft(*draft: int) -> list[list[int]]:
        return [repair.token_ids for repair in usable_repairs(repairs, 3, limits, draft)[0]]

    assert with_draft(2, 9) == [[1, 9], [1, 9], [1]]
    assert with_draft(2) == [[1, 8], [1, 9], [1]], "a draft that was cut short has no end to take over"
    assert [repair.token_ids for repair in repairs] == [[1, 8], [1, 9], [1]]


# ---- against the reference ----


def obvious(
    answers: list[Answer], candidates: dict[int, list[Answer]], chosen: PairSettings
) -> dict[tuple[int, bool], tuple[float, list[float]]]:
    """Reward and weights of each row, by loops over the prose of [DF, Secs. 3.2-3.3]."""
    right = [i for i, a in enumerate(answers) if a.reward is not None and a.reward >= chosen.reward_threshold]
    wrong = [i for i, a in enumerate(answers) if a.reward is not None and a.reward < chosen.reward_threshold]
    rows: dict[tuple[int, bool], tuple[float, list[float]]] = {}
    has_pairs = bool(right) and chosen.makes_pairs
    for i in wrong:
        best = None
        pool = candidates.get(i, []) + ([answers[k] for k in right] if chosen.sibling_repairs else [])
        for candidate in pool if has_pairs else []:
            path = align(answers[i].token_ids, candidate.token_ids)
            longest = max(len(answers[i].token_ids), len(candidate.token_ids))
            cost = path.distance / longest if longest else 0.0
            if candidate.reward is None or candidate.reward < chosen.reward_threshold:
                continue
            if candidate.lowest_probability < chosen.min_probability or cost > chosen.max_edit_cost:
                continue
            if best is None or cost < best[0]:
                best = (cost, candidate, path)
        value, length = float(answers[i].reward or 0.0), len(answers[i].token_ids)
        if best is not None:
            _, candidate, path = best
            sides = [path.source_mask.astype(float), path.target_mask.astype(float)]
            if chosen.weights == "ones":
                sides = [side * 0 + 1 for side in sides]
            elif chosen.weights == "inverted":
                sides = [1 - side for side in sides]
            elif chosen.weights == "wrong_only":
                sides[1] *= 0
            elif chosen.weights == "repair_only":
                sides[0] *= 0
            rows[i, False] = (value, sides[0].tolist())
            if chosen.regroup:
                rows[i, True] = (float(candidate.reward), sides[1].tolist())
        elif (chosen.empty_feasible == "broadcast" and (has_pairs or not chosen.regroup)) or not chosen.makes_pairs:
            rows[i, False] = (value, [1.0] * length)
        elif not chosen.regroup:
            rows[i, False] = (value, [0.0] * length)
    if not chosen.regroup or (chosen.correct_rollouts == "keep" and rows):
        for i in right:
            rows[i, False] = (float(answers[i].reward or 0.0), [1.0] * len(answers[i].token_ids))
    return rows


tokens = st.lists(st.integers(0, 3), min_size=1, max_size=5)
rewards = st.sampled_from([0.0, 0.0, 1.0, None])
probabilities = st.sampled_from([0.02, 1.0])
groups = st.lists(st.builds(Answer, tokens, rewards), min_size=1, max_size=5)
options = st.fixed_dictionaries(
    {
        "sibling_repairs": st.booleans(),
        "max_edit_cost": st.sampled_from([0.4, 1.0]),
        "min_probability": st.sampled_from([0.0, 0.05]),
        "empty_feasible": st.sampled_from(["drop", "broadcast"]),
        "correct_rollouts": st.sampled_from(["leave", "keep"]),
        "regroup": st.booleans(),
        "weights": st.sampled_from(["mask", "ones", *(name for name in ABLATIONS if name != "random")]),
    }
)
repairs_of = st.dictionaries(
    st.integers(0, 4), st.lists(st.builds(Answer, tokens, rewards, st.just(""), probabilities), max_size=3)
)


@settings(max_examples=300, deadline=None)
@given(groups, repairs_of, options)
def test_against_the_obvious_reference_and_its_laws(
    answers: list[Answer], candidates: dict[int, list[Answer]], changes: dict[str, Any]
) -> None:
    chosen = PairSettings(**changes)
    pairs = run(answers, candidates, **changes)
    expected = obvious(answers, candidates, chosen)
    assert weights_of(pairs) == {key: weights for key, (_, weights) in expected.items()}
    values = np.array([expected[member.row, member.is_repair][0] for member in pairs.members])
    centred = values - values.mean() if len(values) > 1 else 0 * values
    spread = values.std(ddof=1) + 1e-4 if len(values) > 1 else 1.0
    np.testing.assert_allclose([member.advantage for member in pairs.members], centred / spread, atol=1e-12)
    for member in pairs.members:
        pair = pairs.pairs.get(member.row)
        whole = pair.repair.token_ids if member.is_repair and pair else answers[member.row].token_ids
        assert (member.token_ids, len(member.weights)) == (whole, len(whole))
        if chosen.weights == "mask" and pair is not None:  # no weight outside the mask
            mask = pair.alignment.target_mask if member.is_repair else pair.alignment.source_mask
            assert (member.weights[~mask] == 0).all()


@settings(max_examples=60, deadline=None)
@given(groups, repairs_of, options, st.randoms(use_true_random=False))
def test_the_order_of_answers_changes_nothing(
    answers: list[Answer], candidates: dict[int, list[Answer]], changes: dict[str, Any], random: Any
) -> None:
    order = list(range(len(answers)))
    random.shuffle(order)
    # Which of equally cheap right siblings is taken does depend on the order; without siblings nothing does.
    changes = changes | {"sibling_repairs": False}
    plain = run(answers, candidates, **changes)
    moved = run(
        [answers[i] for i in order], {order.index(i): c for i, c in candidates.items() if i in order}, **changes
    )
    in_place = {(order[member.row], member.is_repair): member for member in moved.members}
    assert in_place.keys() == weights_of(plain).keys()
    for member in plain.members:
        same = in_place[member.row, member.is_repair]
        assert same.weights.tolist() == member.weights.tolist()
        assert same.advantage == pytest.approx(member.advantage)


def test_a_prompt_without_references_has_no_rows() -> None:
    references = References({}, SkipReason.NO_REFERENCE)
    assert pair_prompt(ANSWERS, references, {}, PairSettings(), texts) == ([], {})


# ---- settings ----


def test_the_papers_defaults() -> None:
    chosen = PairSettings()
    chosen.check()
    assert (chosen.num_repairs, chosen.reward_threshold, chosen.weights, chosen.regroup) == (2, 1.0, "mask", True)


@pytest.mark.parametrize(
    ("changes", "key", "remedy"),
    [
        ({"num_repairs": 0}, "num_repairs=0", "sibling_repairs=True"),
        ({"num_repairs": -1, "sibling_repairs": True}, "num_repairs=-1", "at least one"),
        ({"max_edit_cost": 0.0}, "max_edit_cost=0.0", "above 0"),
        ({"max_edit_cost": 1.5}, "max_edit_cost=1.5", "at most 1"),
        ({"min_probability": 1.0}, "min_probability=1.0", "below 1"),
        ({"min_probability": -0.1}, "min_probability=-0.1", "0.05"),
        ({"sigma": 0.0}, "sigma=0.0", "positive"),
        ({"root_cause": True, "weights": "ones"}, "root_cause=True", "weights='mask'"),
        ({"root_cause": True, "weights": "random"}, "root_cause=True", "weights='mask'"),
        (
            {"weights": "off"},
            "weights='off'",
            "mask, ones, log_ratio, doubt, random, inverted, wrong_only, repair_only",
        ),
        ({"reference": "teacher"}, "reference='teacher'", "sibling_then_answer, sibling, answer"),
        ({"empty_feasible": "keep"}, "empty_feasible='keep'", "drop, broadcast"),
        ({"correct_rollouts": "drop"}, "correct_rollouts='drop'", "leave, keep"),
        ({"repaired_ratio": "new"}, "repaired_ratio='new'", "old, one"),
        ({"granularity": "line"}, "granularity='line'", "token, step"),
        ({"alignment_method": "diff"}, "alignment_method='diff'", "levenshtein, lcs"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_a_remedy(changes: dict[str, Any], key: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as error:
        PairSettings(**changes).check()
    assert key in str(error.value)
    assert remedy in str(error.value)


@pytest.mark.parametrize(
    ("changes", "makes_pairs", "needs_repairer"),
    [
        ({}, True, True),
        ({"num_repairs": 0, "sibling_repairs": True}, True, False),
        ({"regroup": False}, True, True),
        ({"weights": "ones"}, True, True),
        ({"regroup": False, "weights": "ones"}, False, False),
    ],
)
def test_what_needs_pairs_and_a_repair_model(changes: dict[str, Any], makes_pairs: bool, needs_repairer: bool) -> None:
    chosen = PairSettings(**changes)
    assert (chosen.makes_pairs, chosen.needs_repairer) == (makes_pairs, needs_repairer)
