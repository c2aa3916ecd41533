"""`difference-feedback mask`: masks for pairs of answers from a file, without any model."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from difference_feedback.commands.arguments import keep_inputs, output_beside, path_option
from difference_feedback.method.alignment import AlignmentMethod
from difference_feedback.method.masks import Granularity
from difference_feedback.runs.terminal import echo


def mask(
    pairs: Annotated[
        Path,
        typer.Argument(help='JSON Lines: {"id", "wrong", "repaired"}, both answers as texts or both as token ids.'),
    ],
    output: Annotated[
        Path | None,
        path_option(
            "--output",
            "-o",
            help="The masks, JSON Lines; - prints them. [dim]\\[default: PAIRS.masks.jsonl][/]",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        path_option(
            help="Also write a page that shows pairs with their masks.",
            show_default=False,
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="Tokenizer of a model, a folder or a hub name. [dim]\\[default: words and signs][/]",
            show_default=False,
        ),
    ] = None,
    method: Annotated[AlignmentMethod, typer.Option(help="Alignment. lcs has no substitutions.")] = "levenshtein",
    granularity: Annotated[
        Granularity, typer.Option(help="Mark edited tokens, or whole steps (sentences and lines).")
    ] = "token",
    sigma: Annotated[
        float | None,
        typer.Option(help="Soft weights: the reach of an edit, in tokens.", show_default=False),
    ] = None,
    anchor_gaps: Annotated[bool, typer.Option(help="Mark the token at a place where something is missing.")] = True,
) -> None:
    """Make the masks of pairs of a wrong answer and its repair, without any model.

    Each row of the output has the tokens, both masks, the edits, their distance and the edit cost. The page shows at
    most 200 pairs, evenly spread. Rows that cannot be
    used are listed with the remedy, and the exit code is 1. The masks of the other rows are made. If there are none,
    nothing is written.

    [bold]Example:[/] difference-feedback mask pairs.jsonl --output masks.jsonl --html masks.html
    """
    from rich.progress import track

    from difference_feedback.errors import ConfigError
    from difference_feedback.report.mask_page import MaskTotals, write_mask_page
    from difference_feedback.report.mask_pairs import Pair, check_pairs, load_tokenizer, mask_pair
    from difference_feedback.report.shown import SpreadSample
    from difference_feedback.runs.jsonl import RowProblem, count_lines, iterate_input, print_problems, write_jsonl
    from difference_feedback.runs.outputs import check_output, is_stdout, same_output
    from difference_feedback.runs.terminal import Terminal

    if sigma is not None and not sigma > 0:
        raise ConfigError(f"--sigma is {sigma}; it is a length in tokens, above 0. Leave it out for hard masks")
    output = output or output_beside(pairs, "masks")
    inputs = [pairs, *(Path(tokenizer).rglob("*") if tokenizer else ())]
    check_output(output)
    keep_inputs("--output", output, inputs)
    if html:
        check_output(html, "--html")
        keep_inputs("--html", html, inputs)
        if same_output(html, output):
            raise ConfigError(f"--html and --output are the same file, {html}: give two.")
    printed = is_stdout(output) or (html is not None and is_stdout(html))
    errors = Terminal(stderr=True, emoji=False, soft_wrap=True)
    model_tokenizer = load_tokenizer(tokenizer) if tokenizer else None

    problems: list[RowProblem] = []
    shown, totals = SpreadSample[Pair](), MaskTotals()
    settings = model_tokenizer, method, granularity, sigma, anchor_gaps

    def masked() -> Iterator[dict[str, Any]]:
        """The rows of the output, of which one is in memory at a time."""
        lines = count_lines(pairs)
        rows = track(iterate_input(pairs), "Aligning", lines, console=errors, transient=True, disable=lines < 1000)
        for pair in check_pairs(rows, problems, len(model_tokenizer) if model_tokenizer else None):
            try:
                result = mask_pair(pair, *settings)
            except ConfigError as error:
                problems.append(RowProblem(pair.line, None, str(error)))
                continue
            shown.add(pair)
            totals.add(result)
            yield result.to_row()

    results = masked()
    if first := next(results, None):
        write_jsonl(output, chain([first], results))
        echo(f"{totals.pairs} pairs, mean edit cost {totals.cost / totals.pairs:.3f}: {output}", err=printed)
        if html:
            again = (mask_pair(pair, *settings) for pair in shown.items)
            write_mask_page(html, again, totals, title=pairs.name)
            echo(f"Page: {html}", err=printed)
    if problems:
        lines = len({problem.line for problem in problems})
        errors.print(f"{lines} rows of {pairs} could not be used:", style="bold red", markup=False)
        problems.sort(key=lambda problem: problem.line)
        print_problems(problems, errors, shown=50)
        raise typer.Exit(1)
