"""Preference pairs with a repair in the place of the preferred answer."""

from typing import Any

import numpy as np
import pytest

from difference_feedback.errors import DataError
from difference_feedback.method.alignment import align, edit_cost
from difference_feedback.repair.drafts import sample_groups, wrong_drafts
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.repair.preferences import repair_preferences
from difference_feedback.world import is_correct, nano, sample_problems
from difference_feedback.world.oracle import other_correct_answer


@pytest.fixture(scope="module")
def base() -> Any:
    return nano.load_base()


@pytest.fixture(scope="module")
def rows(base: Any) -> list[dict[str, Any]]:
    """Wrong answers of the shipped base, and right ones to the same questions."""
    groups = sample_groups(*base, sample_problems("rl", 16, seed=5), group_size=4, seed=1)
    return [
        {
            **{"prompt": draft.problem.prompt, "images": list(draft.problem.images), "question": draft.problem},
            "chosen": [{"role": "assistant", "content": draft.reference}],
            "rejected": [{"role": "assistant", "content": draft.draft.text}],
        }
        for draft in wrong_drafts(groups, other_reference=other_correct_answer)[:12]
    ]


def grade(row: Any, text: str) -> bool:
    return is_correct(row["question"], text)


def test_the_preferred_answer_becomes_a_repair(base: Any, rows: list[dict[str, Any]]) -> None:
    model, processor = base
    repairer = LocalRepairer(model, processor, style="nano", max_new_tokens=64)
    result = repair_preferences(rows, repairer, processor.tokenizer, grade, num_repairs=2)
    assert len(result.rows) + len(result.unrepaired) == len(rows) == 12
    assert len(result.rows) >= 3
    assert all(row in rows for row in result.unrepaired)

    def distance(row: dict[str, Any]) -> float:
        return edit_cost(align(*(processor.tokenizer.encode(row[k][0]["content"]) for k in ("rejected", "chosen"))))

    assert all(grade(row, row["chosen"][0]["content"]) for row in result.rows)
    # That is what it is for: the answers differ in fewer places.
    assert np.mean([distance(row) for row in result.rows]) < 0.8 * np.mean([distance(row) for row in rows])


def test_bad_rows_are_named(base: Any, rows: list[dict[str, Any]]) -> None:
    _, processor = base
    for changes, message in [
        ({"chosen": "text"}, "row 1, field 'chosen': give a conversation"),
        ({"prompt": []}, "row 1, field 'prompt'"),
        ({"rejected": [{"role": "assistant", "content": " "}]}, "row 1, field 'rejected': the answer has no text"),
        ({"images": [*rows[1]["images"], rows[0]["images"][0]]}, "row 1, field 'images': 2 images for 1 places"),
    ]:
        with pytest.raises(DataError, match=message):
            repair_preferences([rows[0], rows[1] | changes], None, processor.tokenizer, grade)  # type: ignore[arg-type]
