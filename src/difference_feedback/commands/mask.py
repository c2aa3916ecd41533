"""`difference-feedback mask`: masks for pairs of answers from a file, without any model."""

from pathlib import Path
from typing import Annotated

import typer

from difference_feedback.commands.arguments import keep_inputs, named_path, output_beside
from difference_feedback.method.alignment import AlignmentMethod, edit_cost
from difference_feedback.method.masks import Granularity


def mask(
    pairs: Annotated[
        Path,
        typer.Argument(help='JSON Lines: {"id", "wrong", "repaired"}, both answers as texts or both as token ids.'),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=named_path,
            metavar="PATH",
            help="The masks, JSON Lines; - prints them. [dim]\\[default: PAIRS.masks.jsonl][/]",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            parser=named_path,
            metavar="PATH",
            help="Also write a page that shows every pair with its mask.",
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

    Each row of the output has the tokens, both masks, the edits, their distance and the edit cost. Rows that cannot be
    used are listed with the remedy, and the exit code is 1. The masks of the other rows are made. If there are none,
    nothing is written.

    [bold]Example:[/] difference-feedback mask pairs.jsonl --output masks.jsonl --html masks.html
    """
    from rich.progress import track

    from difference_feedback.errors import ConfigError
    from difference_feedback.report.mask_page import write_mask_page
    from difference_feedback.report.mask_pairs import MaskedPair, check_pairs, load_tokenizer, mask_pair
    from difference_feedback.runs.jsonl import RowProblem, print_problems, read_input, write_jsonl
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

    rows, problems = read_input(pairs)
    checked, bad = check_pairs(rows, len(model_tokenizer) if model_tokenizer else None)
    problems += bad
    masked: list[MaskedPair] = []
    for pair in track(checked, "Aligning", console=errors, transient=True, disable=len(checked) < 1000):
        try:
            masked.append(mask_pair(pair, model_tokenizer, method, granularity, sigma, anchor_gaps))
        except ConfigError as error:
            problems.append(RowProblem(pair.line, None, str(error)))

    if masked:
        write_jsonl(output, (result.to_row() for result in masked))
        cost = sum(edit_cost(result.alignment) for result in masked) / len(masked)
        typer.echo(f"{len(masked)} pairs, mean edit cost {cost:.3f}: {output}", err=printed)
    if masked and html:
        write_mask_page(html, masked, title=pairs.name)
        typer.echo(f"Page: {html}", err=printed)
    if problems:
        lines = len({problem.line for problem in problems})
        errors.print(f"{lines} rows of {pairs} could not be used:", style="bold red", markup=False)
        problems.sort(key=lambda problem: problem.line)
        print_problems(problems, errors, shown=50)
        raise typer.Exit(1)
