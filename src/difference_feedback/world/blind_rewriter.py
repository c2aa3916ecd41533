"""A rewriter of faultless language with closed eyes: the least that the reference has to give for a draft to end right.

It carries readings over from the reference into the draft's own wording and works out again what follows from them. Of
the image it knows nothing, so a value that the reference states wrongly is carried over like any other. It stands for
what a repair model could do whose language is faultless and whose eyes are no better than the policy's.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from difference_feedback.world import Problem, final_answer, unseen_forms
from difference_feedback.world.forms import Form
from difference_feedback.world.oracle import closest


def rewrite_blind(problem: Problem, draft: str, reference: str, tokenizer: Any) -> str | None:
    """The draft with the fewest readings of `reference` that make it end as the reference does, all else following.

    An answer does not say in which direction it reads the image: the reference is taken to read it in the way in which
    it agrees with the draft most. Of the ways with equally few readings the closest in tokens is taken, the first of
    equals. None where there is no such way, or draft or reference is written in no known form. The problem's truth is
    not looked at.
    """
    forms = unseen_forms(problem)
    own = next(_as_read(forms, draft), None)
    if own is None:
        return None
    form, stated = own

    def agreement(readings: dict[str, str]) -> int:
        return sum(stated.get(place) == value for place, value in readings.items())

    for given in sorted((readings for _, readings in _as_read(forms, reference)), key=agreement, reverse=True):
        news = [(place, value) for place, value in given.items() if stated.get(place, value) != value]
        for size in range(len(news) + 1):
            ways = (_write(form, stated | dict(carried)) for carried in combinations(news, size))
            right = [answer for answer in ways if final_answer(answer) == final_answer(reference)]
            if right:
                return closest(draft, right, tokenizer)
    return None


def _as_read(forms: list[Form], answer: str) -> Iterator[tuple[Form, dict[str, str]]]:
    """The forms that an answer may be written in, and what it then reads in each place, by the place's name."""
    for form in forms:
        stated = form.stated(answer.strip())
        if stated is not None:
            yield form, {slot.value({}): stated[slot.name] for slot in form.readings}


def _write(form: Form, readings: dict[str, str]) -> str:
    return form.write({slot.name: readings[slot.value({})] for slot in form.readings})
