"""`difference-feedback annotate`: the page where people repair wrong answers and review audits."""

from pathlib import Path
from typing import Annotated

import typer

from difference_feedback.commands.arguments import keep_inputs, path_option


def annotate(
    source: Annotated[
        Path, typer.Argument(help="JSON Lines of wrong answers or of audits, or the folder of a run that has them.")
    ],
    output: Annotated[
        Path | None,
        path_option(
            "--output",
            "-o",
            help="The repairs. [dim]\\[default: SOURCE.annotated.jsonl][/]",
            show_default=False,
        ),
    ] = None,
    annotator: Annotated[
        str | None, typer.Option(help="Your name in the rows. [dim]\\[default: the user's][/]", show_default=False)
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Show masks in a model's tokens. [dim]\\[default: words and signs][/]", show_default=False),
    ] = None,
    draft_from: Annotated[
        list[str] | None,
        typer.Option(
            help="Draft repairs that people correct: by a repair model (its folder, its run's, or a hub name), by the "
            "model behind a server (its URL), or take the closest right answer to the same question (sibling). Given "
            "several times, the closest right repair of all is taken.",
            show_default=False,
        ),
    ] = None,
    draft_model: Annotated[
        str | None, typer.Option(help="The model's name on that server.", show_default=False)
    ] = None,
    key_env: Annotated[
        str | None, typer.Option(help="Environment variable with that server's key.", show_default=False)
    ] = None,
    responses: Annotated[
        list[Path] | None,
        typer.Option(
            "--responses",
            "-r",
            help='Where to look for siblings, too: {"id", "response"}. [dim]\\[default: responses.jsonl beside the '
            "items][/]",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to serve on. Other than 127.0.0.1, people log in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 7860,
) -> None:
    """Repair wrong answers by hand, and review what the auditor found, in a page on this machine.

    Each save is written to a file at once, and `repair sft data=FILE` reads that file. You can close the page at any
    time; it opens again at the next unfinished item. Several people can work on the same files.

    With a --host other than this machine, everyone logs in with a name and the token in the environment variable
    DIFFERENCE_FEEDBACK_TOKEN. If that is not set, a token is made and printed. If it is set, everyone logs in on this
    machine, too, and the page may be called by any name, as behind a proxy.

    With --draft-from, the page starts from a drafted repair, marked as such. They are made ahead, saved beside the
    items, and made once. When you stop the page, it says how many of them people changed, and by how much.

    [bold]Example:[/] difference-feedback annotate runs/demo

    [bold]Example:[/] difference-feedback annotate items.jsonl --annotator ada

    [bold]Example:[/] difference-feedback annotate to_annotate --draft-from runs/repair_sft

    [bold]Example:[/] difference-feedback annotate to_annotate --draft-from http://127.0.0.1:8000/v1 --draft-model qwen
    """
    from difference_feedback.annotate.serve import serve
    from difference_feedback.runs.outputs import check_output

    if output:
        check_output(output)
        rows = source.rglob("*.jsonl") if source.is_dir() else [source]
        keep_inputs("--output", output, (path for path in rows if not path.name.endswith(".annotated.jsonl")))
    serve(
        source,
        output,
        annotator,
        tokenizer,
        host,
        port,
        draft_from=draft_from or [],
        model=draft_model,
        key_env=key_env,
        responses=responses or [],
    )
