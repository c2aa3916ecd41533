"""`difference-feedback report`: one HTML page from run folders."""

from pathlib import Path
from typing import Annotated

import typer

from difference_feedback.commands.arguments import keep_inputs


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; a demo's folder holds several.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The HTML file. [dim]\\[default: report.html in the first folder][/]"),
    ] = None,
) -> None:
    """Write one self-contained HTML page: curves, table, repair figures, cost, and a browser of examples.

    [bold]Example:[/] difference-feedback report runs/nano_grpo runs/nano_df_grpo --output comparison.html
    """
    from difference_feedback.report import write_report

    if output:
        keep_inputs("--output", output, (path for run in runs for path in run.rglob("*") if path.suffix != ".html"))
    typer.echo(write_report(runs, output))
