"""`difference-feedback annotate`: the page where people repair wrong answers and review audits."""

from pathlib import Path
from typing import Annotated

import typer

from difference_feedback.commands.arguments import keep_inputs


def annotate(
    source: Annotated[
        Path, typer.Argument(help="JSON Lines of wrong answers or of audits, or the folder of a run that has them.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The repairs. [dim]\\[default: SOURCE.annotated.jsonl][/]", show_default=False
        ),
    ] = None,
    annotator: Annotated[
        str | None, typer.Option(help="Your name in the rows. [dim]\\[default: the user's][/]", show_default=False)
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Show masks in a model's tokens. [dim]\\[default: words and signs][/]", show_default=False),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to serve on. Other than 127.0.0.1, people log in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 7860,
) -> None:
    """Repair wrong answers by hand, and review what the auditor found, in a page on this machine.

    Each save is written to a file at once, and `repair sft data=FILE` reads that file. You can close the page at any
    time; it opens again at the next unfinished item. Several people can work on the same files.

    With a --host other than this machine, everyone logs in with a name and the token in the environment variable
    DIFFERENCE_FEEDBACK_TOKEN. If that is not set, a token is made and printed.

    [bold]Example:[/] difference-feedback annotate runs/demo

    [bold]Example:[/] difference-feedback annotate items.jsonl --annotator ada
    """
    from difference_feedback.annotate.serve import serve

    if output:
        rows = source.rglob("*.jsonl") if source.is_dir() else [source]
        keep_inputs("--output", output, (path for path in rows if not path.name.endswith(".annotated.jsonl")))
    serve(source, output, annotator, tokenizer, host, port)
