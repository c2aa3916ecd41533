"""Hard answers of many kinds, each with the verdict of a person: how often the rules are wrong, and in which way."""

import json
from pathlib import Path

import pytest

from difference_feedback.judges.rules import Grading, grade

ROWS = [json.loads(line) for line in (Path(__file__).parent / "verdict_rows.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def gradings() -> list[Grading]:
    return [grade(row["response"], row["answer"], row.get("options")) for row in ROWS]


def mistakes(gradings: list[Grading], right: bool) -> list[str]:
    return [
        f"{row['kind']}: {row['response']!r} for {row['answer']!r}: {grading}"
        for row, grading in zip(ROWS, gradings, strict=True)
        if row["right"] is right and grading.correct is not right
    ]


def test_a_wrong_answer_is_not_taken_for_right(gradings: list[Grading]) -> None:
    assert sum(not row["right"] for row in ROWS) > 400
    assert mistakes(gradings, right=False) == []


def test_a_right_answer_is_not_taken_for_wrong(gradings: list[Grading]) -> None:
    assert sum(row["right"] for row in ROWS) > 700
    assert mistakes(gradings, right=True) == []


def test_every_answer_gets_its_verdict_whatever_was_graded_before(gradings: list[Grading]) -> None:
    """What is remembered of earlier answers does not change a verdict."""
    backwards = [grade(row["response"], row["answer"], row.get("options")) for row in reversed(ROWS)]
    assert backwards[::-1] == gradings
