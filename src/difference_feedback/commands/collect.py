"""`difference-feedback repair collect`: find wrong answers that people can repair."""

from pathlib import Path
from typing import Annotated

import typer


def collect(
    data: Annotated[Path, typer.Argument(help='Questions, JSON Lines: {"id", "question", "image", "answer", ...}.')],
    responses: Annotated[
        list[Path] | None,
        typer.Option("--responses", "-r", help='Responses: {"id", "response", "model"?}. May be given several times.'),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Sample this model: a folder or a hub name.", show_default=False)
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Sample a model behind this OpenAI-compatible server.", show_default=False)
    ] = None,
    url_model: Annotated[str, typer.Option(help="The model's name on that server.")] = "policy",
    key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the server's key.", show_default=False)
    ] = None,
    samples: Annotated[int, typer.Option(help="Answers sampled for each question.", min=2)] = 8,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for items.jsonl and its images.")] = Path(
        "to_annotate"
    ),
    items: Annotated[
        int | None, typer.Option(help="Largest number of items. By default all.", min=1, show_default=False)
    ] = None,
    per_question: Annotated[int, typer.Option(help="Largest number of wrong answers to one question.", min=1)] = 1,
    min_words: Annotated[int, typer.Option(help="Leave out drafts with fewer words.", min=0)] = 8,
    max_new_tokens: Annotated[int, typer.Option(help="Longest sampled answer, in tokens.", min=1)] = 512,
    temperature: Annotated[float, typer.Option(help="Temperature of the sampling.", min=0.0)] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling and of the draws.")] = 0,
) -> None:
    """Collect wrong answers for people to repair, each with a right answer to the same question.

    The responses come from files, a local model, or a server. They are graded by rule. If the questions have subjects
    and levels, the items are drawn evenly from them. The command prints how many responses it left out, and why. The
    same command continues an interrupted sampling.

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
