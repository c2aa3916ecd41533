"""The oracle of the embedded world: it knows the truth, repairs wrong answers and marks errors. [DF, Sec. 3, Eq. 1]"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from difference_feedback import world
from difference_feedback.method.alignment import BoolArray
from difference_feedback.world import Problem


def oracle_repair(problem: Problem, draft: str, tokenizer: Any) -> str:
    """The correct answer that is `closest` to the draft: in practice the draft's own form with its errors corrected."""
    return closest(draft, world.correct_answers(problem), tokenizer)


@dataclass(frozen=True)
class Flaws:
    """Known shares of flawed repairs, to measure how good repairs must be."""

    right: float = 1.0
    """Share of repairs that end right. The others are the draft itself."""
    clean: float = 1.0
    """Share, among those that end right, of repairs that state no wrong value."""
    seed: int = 0


FLAWLESS = Flaws()


def flawed_repair(problem: Problem, draft: str, tokenizer: Any, flaws: Flaws) -> str:
    """The oracle's repair, or a flawed one with the probabilities of `flaws`.

    A repair that ends right and is not clean states one reading wrongly, one that the draft has wrong if there are any.
    What follows from that reading is right, so that the error shows in no other place. The draw depends on the seed,
    the problem and the draft alone, and not on what is repaired beside it.
    """
    key = json.dumps([flaws.seed, problem.question, problem.facts, draft.strip()], sort_keys=True)
    rng = np.random.default_rng(list(hashlib.sha256(key.encode()).digest()))
    if rng.random() >= flaws.right:
        return draft.strip()
    repair = oracle_repair(problem, draft, tokenizer)
    return repair if rng.random() < flaws.clean else _with_wrong_reading(problem, draft, repair, rng)


def _with_wrong_reading(problem: Problem, draft: str, repair: str, rng: np.random.Generator) -> str:
    form = next(form for form in world.forms_of(problem) if form.write() == repair)
    truth, stated = form.stated(repair), form.stated(draft.strip()) or {}
    assert truth is not None
    wrong = [slot for slot in form.readings if stated.get(slot.name, truth[slot.name]) != truth[slot.name]]
    slots = wrong or list(form.readings)
    slot = slots[rng.integers(len(slots))]
    return form.write(truth | {slot.name: slot.misreadings[rng.integers(len(slot.misreadings))]})


def closest(draft: str, answers: Sequence[str], tokenizer: Any) -> str:
    """The answer at the smallest Levenshtein distance from the draft, in tokens of `tokenizer`; the first of equals."""
    ids = tokenizer.encode(draft.strip(), add_special_tokens=False)

    def distance(answer: str) -> int:
        return Levenshtein.distance(ids, tokenizer.encode(answer, add_special_tokens=False))

    return min(answers, key=distance)


def other_correct_answer(problem: Problem, rng: np.random.Generator) -> str:
    """A correct answer in a uniformly drawn form, as a correct rollout of the same group could have."""
    answers = world.correct_answers(problem)
    return answers[rng.integers(len(answers))]


def error_tokens(
    problem: Problem, draft_ids: Sequence[int], tokenizer: Any, roots_only: bool = False
) -> BoolArray | None:
    """Which tokens of a draft state a wrong value, `(T,)`; None when the draft has no known form.

    With `roots_only`, errors that follow from an earlier error are left out.
    """

    def text_of(ids: Sequence[int]) -> str:
        return tokenizer.decode(ids, skip_special_tokens=True)

    text = text_of(draft_ids)
    spans = world.error_spans(problem, text)
    if spans is None:
        return None
    shift = len(text) - len(text.lstrip())  # spans count from the first non-blank character
    # The end of each token, from decoded prefixes: some tokenizers decode a single token differently.
    ends = np.array([len(text_of(draft_ids[: i + 1])) for i in range(len(draft_ids))], dtype=np.int64)
    starts = np.concatenate(([0], ends[:-1]))
    mask = np.zeros(len(draft_ids), dtype=np.bool_)
    for span in (span for span in spans if span.root or not roots_only):
        mask |= (starts < span.end + shift) & (ends > span.start + shift)
    return mask


@dataclass(frozen=True)
class MaskQuality:
    """How well the marked tokens of wrong answers match the tokens that state a wrong value."""

    precision: float
    recall: float
    f1: float


def mask_quality(marked: Sequence[BoolArray], errors: Sequence[BoolArray]) -> MaskQuality | None:
    """Precision, recall and F1 of the marked tokens, counted over all answers; None when no token is wrong."""
    if not sum(int(mask.sum()) for mask in errors):
        return None
    hits = sum(int((a & b).sum()) for a, b in zip(marked, errors, strict=True))
    positive, true = (sum(int(mask.sum()) for mask in masks) for masks in (marked, errors))
    precision, recall = hits / positive if positive else 0.0, hits / true
    return MaskQuality(precision, recall, 2 * hits / (positive + true))
