"""`difference-feedback mask`: masks for pairs of answers from a file, without any model."""

from pathlib import Path
from typing import Annotated

import typer

from difference_feedback.commands.arguments import RowJobs, keep_inputs, output_beside, path_option
from difference_feedback.method.alignment import AlignmentMethod
from difference_feedback.method.masks import Granularity
from difference_feedback.runs.terminal import echo


def mask(
    pairs: Annotated[
        Path,
        typer.Argument(help='JSON Lines: {"id", "wrong", "repair"}, both answers as texts or both as token ids.'),
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
    jobs: RowJobs = None,
) -> None:
    """Make the masks of pairs of a wrong answer and its repair, without any model.

    Each row of the output has the tokens, both masks, the edits, their distance and the edit cost. The page shows at
    most 200 pairs, evenly spread. Rows that cannot be
    used are listed with the remedy, and the exit code is 1. The masks of the other rows are made. If there are none,
    nothing is written.

    [bold]Example:[/] difference-feedback mask pairs.jsonl --output masks.jsonl --html masks.html
    """
    from functools import partial

    from difference_feedback.errors import ConfigError
    from difference_feedback.report.mask_file import mask_file
    from difference_feedback.report.mask_pairs import load_tokenizer, mask_pair
    from difference_feedback.runs.jsonl import print_problems
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

    masks = partial(
        mask_pair,
        tokenizer=model_tokenizer,
        method=method,
        granularity=granularity,
        sigma=sigma,
        anchor_gaps=anchor_gaps,
    )
    vocabulary = len(model_tokenizer) if model_tokenizer else None
    file = mask_file(pairs, output, masks, vocabulary, html is not None, errors, jobs)
    totals = file.totals
    if totals.pairs:
        pairs_said = "1 pair" if totals.pairs == 1 else f"{totals.pairs} pairs"
        echo(f"{pairs_said}, mean edit cost {totals.cost / totals.pairs:.3f}: {output}", err=printed)
        if html:
            from difference_feedback.report.mask_page import write_mask_page

            write_mask_page(html, map(masks, file.shown.items), totals, title=pairs.name)
            echo(f"Page: {html}", err=printed)
    if file.problems:
        lines = len({problem.line for problem in file.problems})
        errors.print(f"{lines} rows of {pairs} could not be used:", style="bold red", markup=False)
        print_problems(file.problems, errors, shown=50)
        raise typer.Exit(1)
