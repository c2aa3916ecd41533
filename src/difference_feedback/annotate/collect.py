"""Choose items to annotate: different wrong answers to questions that another response answers right, drawn evenly."""

from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

import numpy as np

from difference_feedback.data.conversations import shown_marks
from difference_feedback.data.dataset import VisualQuestion
from difference_feedback.judges.questions import FINAL_ANSWER, Grader


@dataclass(frozen=True)
class Response:
    """A response to the question with id `question`; `source` is the model that gave it."""

    question: str
    text: str
    source: str = ""


@dataclass
class Collection:
    """The chosen items. `counts` says, for every other response, why it was not chosen."""

    items: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    strata: Counter[str] = field(default_factory=Counter)
    """Number of items by stratum, that is by subject, level and model of the wrong answer."""
    questions: list[VisualQuestion] = field(default_factory=list)
    """The question of each item."""


def collect_items(
    questions: Sequence[VisualQuestion],
    responses: Sequence[Response],
    *,
    grader: Grader = FINAL_ANSWER,
    shown: Mapping[str, str] | None = None,
    strata: Mapping[str, Mapping[str, Any]] | None = None,
    limit: int | None = None,
    per_question: int = 1,
    min_words: int = 8,
    seed: int = 0,
) -> Collection:
    """Choose wrong responses, and for each a right response to the same question as its reference.

    Args:
        grader: who says which responses are right; those that it cannot judge become no items.
        shown: `question id -> text` for people, where it is not the text for the model.
        strata: `question id -> {"subject": ..., "level": ...}` where known. Items are drawn from the strata in turn; if
            several models have answered, from each model's wrong answers in turn, too.
        limit: largest number of items; None: all.
        per_question: largest number of wrong answers to one question.
        min_words: drafts with fewer words are left out, since they show no reasoning to repair. References with fewer
            words are used only if there is no longer one.
        seed: seed of the random draws.

    The items do not hold the images. An item's `id` is its question's id, with a number if the question has several.
    """
    rng = np.random.default_rng(seed)
    known = {question.id: question for question in questions}
    collection = Collection()
    right: defaultdict[str, list[Response]] = defaultdict(list)
    wrong: defaultdict[str, list[Response]] = defaultdict(list)
    graded: list[Response] = []
    for response in responses:
        if response.question not in known:
            collection.counts["question unknown"] += 1
        elif not response.text.strip():
            collection.counts["empty"] += 1
        else:
            graded.append(response)
    verdicts = grader.grade([known[response.question] for response in graded], [r.text for r in graded])
    for response, verdict in zip(graded, verdicts, strict=True):
        if verdict is None:
            collection.counts["not judged"] += 1
        elif verdict:
            collection.counts["right"] += 1
            right[response.question].append(response)
        else:
            wrong[response.question].append(response)
    models = {response.source for response in responses}
    by_stratum: defaultdict[str, list[tuple[VisualQuestion, Response, Response]]] = defaultdict(list)
    for name, drafts in wrong.items():
        for response, reference in _pairs(drafts, right[name], per_question, min_words, collection.counts, rng):
            model = {"model": response.source} if len(models) > 1 else {}
            by_stratum[_stratum({**(strata or {}).get(name, {}), **model})].append((known[name], response, reference))
    for pairs in by_stratum.values():
        rng.shuffle(pairs)
    chosen: list[tuple[str, tuple[VisualQuestion, Response, Response]]] = []
    while any(by_stratum.values()) and (limit is None or len(chosen) < limit):
        for stratum in sorted(by_stratum):
            if by_stratum[stratum] and (limit is None or len(chosen) < limit):
                chosen.append((stratum, by_stratum[stratum].pop()))
    collection.counts["beyond the number asked for"] += sum(map(len, by_stratum.values()))
    names: set[str] = set()
    for stratum, (question, response, reference) in chosen:
        collection.strata[stratum] += 1
        item = _item(question, response, reference, (shown or {}).get(question.id))
        item |= {name: value for name, value in (strata or {}).get(question.id, {}).items() if value is not None}
        item["id"] = next(name for name in _names(question.id, known) if name not in names)
        names.add(item["id"])
        collection.items.append(item)
        collection.questions.append(question)
    collection.counts["items"] = len(chosen)
    return collection


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


def _item(question: VisualQuestion, response: Response, reference: Response, shown: str | None) -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": question.id,
        "question": shown_marks(shown or question.question),
        "draft": response.text.strip(),
        "reference": reference.text.strip(),
        "answer": question.answer,
    }
    if question.options:
        item["options"] = list(question.options)
    if response.source or reference.source:
        item["source"] = {"draft": response.source, "reference": reference.source}
    return item | {"prompt": question.prompt}


def _names(question: str, known: Container[str]) -> Iterator[str]:
    """Names for the items of a question: its id, then the id with numbers, where no other question has this id."""
    numbered = (f"{question}-{number}" for number in count(2))
    return chain([question], (name for name in numbered if name not in known))


def _stratum(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None) or "unknown"
