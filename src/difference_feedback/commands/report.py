"""`difference-feedback report`: one HTML page from run folders."""

from pathlib import Path
from typing import Annotated

import typer

from difference_feedback.commands.arguments import keep_inputs, path_option
from difference_feedback.runs.terminal import echo


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; a demo's folder holds several.")],
    output: Annotated[
        Path | None,
        path_option(
            "--output",
            "-o",
            help="The HTML file; - prints it. [dim]\\[default: report.html in the first folder][/]",
        ),
    ] = None,
) -> None:
    """Write one self-contained HTML page: curves, table, benchmarks, repair figures, cost, and a browser of examples.

    A run of `evaluate` is a row of the results, as a training run with `test_data` is. Of other training runs the page
    shows the reward, and it says why a run has no result.

    What `evaluate MODEL TASK...` measured stands in one table, a row a model. It is printed, too.

    [bold]Example:[/] difference-feedback report runs/nano_grpo runs/nano_df_grpo --output comparison.html

    [bold]Example:[/] difference-feedback report runs/df_gspo runs/gspo runs/benchmarks/Qwen--Qwen2.5-VL-7B-Instruct
    """
    from difference_feedback.report.benchmarks import benchmark_table, show_table
    from difference_feedback.report.collect import load_report
    from difference_feedback.report.page import write_page
    from difference_feedback.runs.outputs import check_output, is_stdout
    from difference_feedback.runs.terminal import Terminal

    path = output or runs[0] / "report.html"
    check_output(path)
    printed = is_stdout(path)
    if output:
        keep_inputs("--output", output, (path for run in runs for path in run.rglob("*") if path.suffix != ".html"))
    data = load_report(runs)
    write_page(data, runs[0], path)
    if table := benchmark_table(data.benchmarks):
        show_table(table, Terminal(emoji=False, stderr=printed))
    echo(path, err=printed)
