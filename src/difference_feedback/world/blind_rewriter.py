"""The blind rewriter writes perfect sentences and never sees the image.

It copies readings from the reference into the draft's own wording and computes again what follows from them. It copies
as few as make the draft end right. A value that the reference states wrongly is copied like any other. It shows what a
repair model could do that writes perfectly but sees no better than the policy.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from difference_feedback.world import Problem, final_answer, unseen_forms
from difference_feedback.world.forms import Form
from difference_feedback.world.oracle import closest


def rewrite_blind(problem: Problem, draft: str, reference: str, tokenizer: Any) -> str | None:
    """Rewrite the draft with the fewest readings of `reference` that give it the reference's final answer.

    An answer does not say in which direction it reads the image. The reference is read in the direction that agrees
    with the draft most. Among rewrites with equally few readings, the closest in tokens is taken, the first of equals.
    The result is None when there is no such rewrite, or when draft or reference has no known form. The problem's truth
    is not used.
    """
    forms = unseen_forms(problem)
    draft_reading = next(_as_read(forms, draft), None)
    if draft_reading is None:
        return None
    form, stated = draft_reading

    def agreement(readings: dict[str, str]) -> int:
        return sum(stated.get(place) == value for place, value in readings.items())

    candidates = (readings for _, readings in _as_read(forms, reference))
    for readings in sorted(candidates, key=agreement, reverse=True):
        different = [(place, value) for place, value in readings.items() if stated.get(place, value) != value]
        for size in range(len(different) + 1):
            rewrites = (_write(form, stated | dict(copied)) for copied in combinations(different, size))
            right = [rewrite for rewrite in rewrites if final_answer(rewrite) == final_answer(reference)]
            if right:
                return closest(draft, right, tokenizer)
    return None


def _as_read(forms: list[Form], answer: str) -> Iterator[tuple[Form, dict[str, str]]]:
    """Each form that an answer may have, with the value that the answer then states for each place of the image."""
    for form in forms:
        stated = form.stated(answer.strip())
        if stated is not None:
            yield form, {slot.value({}): stated[slot.name] for slot in form.readings}


def _write(form: Form, readings: dict[str, str]) -> str:
    return form.write({slot.name: readings[slot.value({})] for slot in form.readings})
