"""`difference-feedback repair collect`: wrong answers to repair by hand, from a model or from responses in files."""

from pathlib import Path
from typing import Annotated

import typer


def collect(
    data: Annotated[Path, typer.Argument(help='Questions, JSON Lines: {"id", "question", "image", "answer", ...}.')],
    responses: Annotated[
        list[Path] | None,
        typer.Option("--responses", "-r", help='Existing responses: {"id", "response", "model"?}; may be repeated.'),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Sample this model: a folder or a hub name.", show_default=False)
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Sample a model behind this OpenAI-compatible server.", show_default=False)
    ] = None,
    url_model: Annotated[str, typer.Option(help="Its name there.")] = "policy",
    key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the server's key.", show_default=False)
    ] = None,
    samples: Annotated[int, typer.Option(help="Answers sampled for each question.", min=2)] = 8,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for items.jsonl and its images.")] = Path(
        "to_annotate"
    ),
    items: Annotated[
        int | None, typer.Option(help="How many items; all by default.", min=1, show_default=False)
    ] = None,
    per_question: Annotated[int, typer.Option(help="Wrong answers to one question, at most.", min=1)] = 1,
    min_words: Annotated[int, typer.Option(help="Shorter drafts are left out.", min=0)] = 8,
    max_new_tokens: Annotated[int, typer.Option(help="Longest sampled answer.", min=1)] = 512,
    temperature: Annotated[float, typer.Option(help="Of the sampling.", min=0.0)] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the sampling and the draws.")] = 0,
) -> None:
    """Make the file that people annotate: wrong answers that have a right answer to the same question.

    Responses are graded by rule. Repetitions are left out, and items are drawn evenly from subjects and levels where
    the questions have them. Everything left out is counted. Sampling goes on where it was interrupted.

    [bold]Example:[/] difference-feedback repair collect testmini.jsonl -r a.jsonl -r b.jsonl --items 100

    [bold]Example:[/] difference-feedback repair collect train.jsonl --model Qwen/Qwen2.5-VL-7B-Instruct
    """
    from rich.console import Console

    from difference_feedback.annotate.collection import collect_folder
    from difference_feedback.errors import ConfigError

    if sum(option is not None and option != [] for option in (responses, model, url)) != 1:
        raise ConfigError("give one of --responses, --model and --url: where the answers come from")
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    collected = collect_folder(
        data,
        output,
        responses=responses or [],
        model=model,
        endpoint={"url": url, "model": url_model, "api_key_env": key_env} if url else None,
        sampling={"samples": samples, "max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed},
        drawing={"limit": items, "per_question": per_question, "min_words": min_words, "seed": seed},
        console=console,
    )
    for what, count in collected.counts.items():
        if count:
            console.print(f"  {count:6d} {what}", markup=False)
    typer.echo(f"{len(collected.items)} items: {output / 'items.jsonl'}")
    typer.echo(f"Now: difference-feedback annotate {output}")
