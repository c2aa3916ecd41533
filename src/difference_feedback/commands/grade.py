"""`difference-feedback grade`: correctness by rule, for responses in a file."""

from pathlib import Path
from typing import Annotated

import typer

from difference_feedback.commands.arguments import RowJobs, keep_inputs, output_beside, path_option


def grade(
    rows: Annotated[Path, typer.Argument(help='JSON Lines: {"response", "answer", "options"?}.')],
    output: Annotated[
        Path | None,
        path_option(
            "--output",
            "-o",
            help="The graded rows; - prints them. [dim]\\[default: ROWS.graded.jsonl][/]",
            show_default=False,
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(help="A field with verdicts (true, false) to compare with.", show_default=False),
    ] = None,
    jobs: RowJobs = None,
) -> None:
    """Grade responses by rule: find each final answer, and compare it with the annotated one.

    Each row gets the fields `extracted`, `correct` and `rule`. A field that had one of these names is kept as
    `given_<name>`. Rows that cannot be used are listed with the remedy, and the exit code is 1. The other rows are
    graded. Without any that can be used, nothing is written.

    [bold]Example:[/] difference-feedback grade rows.jsonl --output graded.jsonl
    """
    from difference_feedback.judges.grading import grade_file
    from difference_feedback.runs.jsonl import print_problems
    from difference_feedback.runs.outputs import check_output, is_stdout
    from difference_feedback.runs.terminal import Terminal

    output = output or output_beside(rows, "graded")
    check_output(output)
    console = Terminal(stderr=is_stdout(output), soft_wrap=True, emoji=False, highlight=False)
    errors = Terminal(stderr=True, emoji=False, soft_wrap=True)
    keep_inputs("--output", output, [rows])
    result = grade_file(rows, output, compare, errors, jobs)
    if result.graded:
        console.print(f"{result.graded} graded, {result.correct} correct: {result.output}", markup=False)
        console.print(", ".join(f"{rule} {count}" for rule, count in result.rules.most_common()), markup=False)
    if result.compared:
        share = 1 - len(result.disagreements) / result.compared
        others = "; not on:" if result.disagreements else "."
        console.print(f"Agrees with {compare} on {share:.1%} of {result.compared} rows{others}", markup=False)
        for line in result.disagreements:
            console.print(f"  {line}", markup=False)
    if result.problems:
        errors.print(f"{len(result.problems)} rows of {rows} could not be used:", style="bold red", markup=False)
        print_problems(result.problems, errors, shown=50)
        raise typer.Exit(1)
