"""Grade a file of responses by rule."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from difference_feedback.judges.rules import grade
from difference_feedback.runs.jsonl import Row, RowProblem, read_jsonl, write_jsonl

ADDED = ("extracted", "correct", "rule")


@dataclass
class GradedFile:
    """What came of it. `disagreements` are lines to show, one a row whose given verdict differs from ours."""

    output: Path
    graded: int = 0
    correct: int = 0
    compared: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    disagreements: list[str] = field(default_factory=list)
    problems: list[RowProblem] = field(default_factory=list)


def grade_file(path: Path, output: Path, compare: str | None = None, console: Console | None = None) -> GradedFile:
    """Grade the rows of `path` into `output`; `compare` names a field with verdicts to compare with.

    Raises `DataError` when a file cannot be read or written. Rows that cannot be used are listed and left out.
    """
    rows, problems = read_jsonl(path)
    result = GradedFile(output, problems=problems)

    def graded() -> Iterator[dict[str, Any]]:
        for row in track(rows, "Grading", console=console, transient=True, disable=len(rows) < 1000):
            problem = _problem(row)
            if problem is not None:
                result.problems.append(problem)
                continue
            yield _graded(row, result, compare)

    write_jsonl(output, graded())
    result.problems.sort(key=lambda problem: problem.line)
    return result


def _graded(row: Row, result: GradedFile, compare: str | None) -> dict[str, Any]:
    values = row.values
    found = grade(values["response"], str(values["answer"]), values.get("options"))
    result.graded += 1
    result.correct += found.correct
    result.rules[found.rule] += 1
    if compare is not None:
        given = values.get(compare)
        if not isinstance(given, bool):
            result.problems.append(RowProblem(row.line, compare, f"{given!r}; give true or false to compare with"))
        else:
            result.compared += 1
            if given != found.correct:
                name = values.get("id", f"line {row.line}")
                result.disagreements.append(
                    f"{name}: extracted {found.extracted!r} ({found.rule}), answer {values['answer']!r}: "
                    f"{'correct' if found.correct else 'wrong'}, {compare} says {'correct' if given else 'wrong'}"
                )
    kept = {f"given_{name}" if name in ADDED else name: value for name, value in values.items()}
    return kept | {"extracted": found.extracted, "correct": found.correct, "rule": found.rule}


def _problem(row: Row) -> RowProblem | None:
    values = row.values
    if not isinstance(values.get("response"), str):
        return RowProblem(row.line, "response", "missing, or no text; give the response to grade")
    answer = values.get("answer")
    if isinstance(answer, bool) or not isinstance(answer, str | int | float) or not str(answer).strip():
        return RowProblem(row.line, "answer", "missing or empty; give the annotated answer, a text or a number")
    options = values.get("options")
    if options is not None and not (isinstance(options, list) and all(isinstance(o, str) for o in options)):
        return RowProblem(row.line, "options", "no list of texts; leave it out where there are no choices")
    return None
