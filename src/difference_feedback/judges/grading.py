"""Grade the responses in a file by rule."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import track

from difference_feedback.errors import ConfigError
from difference_feedback.judges.rules import grade
from difference_feedback.runs.jsonl import Row, RowProblem, count_lines, iterate_input, to_json, write_jsonl
from difference_feedback.runs.row_work import work_on_input

ADDED = ("extracted", "correct", "rule")


@dataclass
class GradedFile:
    """The result of grading a file. `disagreements` has a line to print for each row whose given verdict differs."""

    output: Path
    graded: int = 0
    correct: int = 0
    compared: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    disagreements: list[str] = field(default_factory=list)
    problems: list[RowProblem] = field(default_factory=list)

    def add(self, row: "GradedRow") -> None:
        """Count a row that was graded."""
        self.graded += 1
        self.correct += row.correct
        self.rules[row.rule] += 1
        self.compared += row.disagreement is not None
        if row.disagreement:
            self.disagreements.append(row.disagreement)
        if row.problem:
            self.problems.append(row.problem)


class GradedRow(NamedTuple):
    """A row's grading, and the row to write as JSON. `disagreement` is a line to print, empty where
    both agree; None where there is no verdict to compare with.
    """

    correct: bool
    rule: str
    text: str
    disagreement: str | None
    problem: RowProblem | None


def grade_file(
    path: Path, output: Path, compare: str | None = None, console: Console | None = None, jobs: int | None = 1
) -> GradedFile:
    """Grade the rows of `path` and write them to `output`; `compare` names a field with verdicts to compare with.

    Unusable rows are left out and listed in `problems`. If there are no others, no file is written. `jobs` is that of
    `work_on_input`.

    Raises `DataError` when a file cannot be read or written, or holds no row, and `ConfigError` when no row has
    verdicts in the field `compare`.
    """
    if compare is not None and path.is_file():  # a pipe can be read once only
        _check_compared(path, compare)
    result, lines = GradedFile(output), count_lines(path)

    def graded() -> Iterator[str]:
        rows = work_on_input(path, partial(_graded, compare=compare), jobs)
        for row in track(rows, "Grading", lines, console=console, transient=True, disable=lines < 1000):
            if isinstance(row, RowProblem):
                result.problems.append(row)
            else:
                result.add(row)
                yield row.text

    good = graded()
    if first := next(good, None):
        write_jsonl(output, chain([first], good))
    result.problems.sort(key=lambda problem: problem.line)
    return result


def _check_compared(path: Path, compare: str) -> None:
    """Raise `ConfigError` where no row has a verdict in the field `compare`."""
    verdicts: set[str] = set()
    for row in iterate_input(path):
        if isinstance(row, Row):
            verdicts |= {name for name, value in row.values.items() if isinstance(value, bool)}
            if compare in verdicts:
                return
    has = f"name one of {', '.join(sorted(verdicts))}" if verdicts else "no other field has, so leave it out"
    raise ConfigError(f"--compare {compare}: no row of {path} has true or false in this field; {has}.")


def _graded(row: Row | RowProblem, compare: str | None) -> GradedRow | RowProblem:
    """Grade a row, or say why it cannot be."""
    problem = row if isinstance(row, RowProblem) else _problem(row)
    if problem is not None:
        return problem
    assert isinstance(row, Row)
    values = row.values
    grading = grade(values["response"], str(values["answer"]), values.get("options"))
    disagreement = None
    if compare is not None:
        published = values.get(compare)
        if not isinstance(published, bool):
            message = f"the value is {published!r}; give true or false to compare with"
            problem = RowProblem(row.line, compare, message)
        else:
            name = values.get("id", f"line {row.line}")
            said, compared = ("correct" if verdict else "wrong" for verdict in (grading.correct, published))
            disagreement = (
                f"{name}: extracted {grading.extracted!r} ({grading.rule}), answer {values['answer']!r}: {said}, "
                f"{compare} says {compared}"
                if said != compared
                else ""
            )
    kept = {f"given_{name}" if name in ADDED else name: value for name, value in values.items()}
    kept |= {"extracted": grading.extracted, "correct": grading.correct, "rule": grading.rule}
    return GradedRow(grading.correct, grading.rule, to_json(kept), disagreement, problem)


def _problem(row: Row) -> RowProblem | None:
    values = row.values
    if not isinstance(values.get("response"), str):
        return RowProblem(row.line, "response", "missing or not a text; give the response to grade")
    answer = values.get("answer")
    is_whole = isinstance(answer, int) and not isinstance(answer, bool)  # of which a float cannot hold each
    is_number = is_whole or (isinstance(answer, float) and math.isfinite(answer))
    if not is_number and not (isinstance(answer, str) and answer.strip()):
        return RowProblem(row.line, "answer", "missing or empty; give the annotated answer, a text or a number")
    options = values.get("options")
    if options is not None and not (isinstance(options, list) and all(isinstance(o, str) for o in options)):
        return RowProblem(
            row.line, "options", "not a list of texts; leave the field out if the question has no options"
        )
    return None
