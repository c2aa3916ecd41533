"""Items to annotate from graded responses: wrong answers that have a right sibling, not repeated, spread evenly."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from difference_feedback.data.dataset import VisualQuestion
from difference_feedback.judges.rules import grade


@dataclass(frozen=True)
class Response:
    """An answer to a question, by its id; `source` is the model that gave it."""

    question: str
    text: str
    source: str = ""


@dataclass
class Collection:
    """The items, and where every other response went: each is counted once."""

    items: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    strata: Counter[str] = field(default_factory=Counter)
    """Items by stratum, `subject, level`."""


def collect_items(
    questions: Sequence[VisualQuestion],
    responses: Sequence[Response],
    *,
    strata: Mapping[str, Mapping[str, Any]] | None = None,
    limit: int | None = None,
    per_question: int = 1,
    min_words: int = 8,
    seed: int = 0,
) -> Collection:
    """Choose wrong responses and a right one to the same question for each.

    Args:
        strata: `question id -> {"subject": ..., "level": ...}` where known; items are drawn from each in turn.
        limit: at most so many items; None: all.
        per_question: at most so many wrong answers to one question.
        min_words: shorter drafts show no reasoning to repair, and are left out; shorter references are taken only where
            there is no longer one.
        seed: of the draws.

    Images are not part of the items; `id` is the question's, numbered where a question has several.
    """
    rng = np.random.default_rng(seed)
    known = {question.id: question for question in questions}
    found = Collection()
    right: defaultdict[str, list[Response]] = defaultdict(list)
    wrong: defaultdict[str, list[Response]] = defaultdict(list)
    for response in responses:
        question = known.get(response.question)
        if question is None:
            found.counts["question unknown"] += 1
        elif not response.text.strip():
            found.counts["empty"] += 1
        elif grade(response.text, question.answer, list(question.options) or None).correct:
            found.counts["right"] += 1
            right[response.question].append(response)
        else:
            wrong[response.question].append(response)
    by_stratum: defaultdict[str, list[tuple[VisualQuestion, Response, Response]]] = defaultdict(list)
    for name, drafts in wrong.items():
        for response, reference in _pairs(drafts, right[name], per_question, min_words, found.counts, rng):
            by_stratum[_stratum((strata or {}).get(name, {}))].append((known[name], response, reference))
    for pairs in by_stratum.values():
        rng.shuffle(pairs)
    chosen: list[tuple[str, tuple[VisualQuestion, Response, Response]]] = []
    while any(by_stratum.values()) and (limit is None or len(chosen) < limit):
        for stratum in sorted(by_stratum):
            if by_stratum[stratum] and (limit is None or len(chosen) < limit):
                chosen.append((stratum, by_stratum[stratum].pop()))
    found.counts["beyond the number asked for"] += sum(map(len, by_stratum.values()))
    numbers: Counter[str] = Counter()
    for stratum, (question, response, reference) in chosen:
        numbers[question.id] += 1
        number = numbers[question.id]
        found.strata[stratum] += 1
        found.items.append(_item(question, response, reference, number, (strata or {}).get(question.id, {})))
    found.counts["items"] = len(chosen)
    return found


def _pairs(
    drafts: list[Response],
    right: list[Response],
    per_question: int,
    min_words: int,
    counts: Counter[str],
    rng: np.random.Generator,
) -> list[tuple[Response, Response]]:
    if not right:
        counts["wrong, no right answer to the same question"] += len(drafts)
        return []
    long_enough = [draft for draft in drafts if len(draft.text.split()) >= min_words]
    counts["wrong, shorter than the least length"] += len(drafts) - len(long_enough)
    different = list({" ".join(draft.text.split()).casefold(): draft for draft in long_enough}.values())
    counts["wrong, the same as another"] += len(long_enough) - len(different)
    kept = [different[i] for i in rng.permutation(len(different))[:per_question]]
    counts["wrong, beyond the number for each question"] += len(different) - len(kept)
    references = [r for r in right if len(r.text.split()) >= min_words]
    counts["items with a short reference"] += 0 if references else len(kept)
    references = references or right
    return [(draft, references[rng.integers(len(references))]) for draft in kept]


def _item(
    question: VisualQuestion, response: Response, reference: Response, number: int, stratum: Mapping[str, Any]
) -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": question.id if number == 1 else f"{question.id}-{number}",
        "question": question.question.replace("<image>", "").strip(),
        "draft": response.text.strip(),
        "reference": reference.text.strip(),
        "answer": question.answer,
    }
    if question.options:
        item["options"] = list(question.options)
    item |= {name: value for name, value in stratum.items() if value is not None}
    if response.source or reference.source:
        item["source"] = {"draft": response.source, "reference": reference.source}
    return item


def _stratum(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None) or "not known"
