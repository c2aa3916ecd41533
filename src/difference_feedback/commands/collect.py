"""`difference-feedback repair collect`: find wrong answers that people can repair."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from difference_feedback.commands.arguments import keep_inputs, path_option, use_folder
from difference_feedback.runs.terminal import echo

KEYS = ("data", "system_prompt", "format_prompt", "reward", "reward_threshold", "judge")


def collect(
    data: Annotated[
        Path, typer.Argument(help="Questions: a file, folder or hub name of any form that `train data.path=` takes.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Keys of a `train` recipe: data.split, data.columns, system_prompt, format_prompt, reward, ...",
            show_default=False,
        ),
    ] = None,
    responses: Annotated[
        list[Path] | None,
        typer.Option("--responses", "-r", help='Responses: {"id", "response", "model"?}. May be given several times.'),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Sample this model: a folder or a hub name.", show_default=False)
    ] = None,
    dtype: Annotated[
        Literal["bfloat16", "float16", "float32"] | None,
        typer.Option(
            help="Weights of --model in this process. By default bfloat16 on a GPU, float32 on a CPU.",
            show_default=False,
        ),
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option(help="Attention of --model: sdpa, flash_attention_2, ... By default its own.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Answers of --model that are sampled at the same time.", min=1)] = 64,
    serve: Annotated[
        str | None,
        typer.Option(
            help='Sample --model by a vLLM server that this command starts and stops: "vllm serve", or more words.',
            show_default=False,
        ),
    ] = None,
    gpus: Annotated[
        str | None, typer.Option(help="GPUs of that server: 0,1. By default all that are visible.", show_default=False)
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Sample a model behind this OpenAI-compatible server.", show_default=False)
    ] = None,
    url_model: Annotated[str, typer.Option(help="The model's name on that server.")] = "policy",
    key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the server's key.", show_default=False)
    ] = None,
    samples: Annotated[int, typer.Option(help="Answers sampled for each question.", min=2)] = 8,
    output: Annotated[
        Path,
        path_option("--output", "-o", help="Folder for items.jsonl and its images."),
    ] = Path("to_annotate"),
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

    The responses come from files, a local model, or a server. They are graded by rule, or by what `reward` names. The
    questions are put as `system_prompt`, `format_prompt` and `data.instruction` say: give those of the policy's
    training. If the questions have subjects and levels, the items are drawn evenly from them. The command prints how
    many responses it left out, and why. The same command continues an interrupted sampling.

    [bold]Example:[/] difference-feedback repair collect testmini.jsonl -r a.jsonl -r b.jsonl --items 100

    [bold]Example:[/] difference-feedback repair collect train.jsonl --model Qwen/Qwen2.5-VL-7B-Instruct

    [bold]Example:[/] difference-feedback repair collect train.jsonl system_prompt=system.txt data.columns.answer=truth
    --model Qwen/Qwen2.5-VL-7B-Instruct

    [bold]Example:[/] difference-feedback repair collect train.jsonl --model Qwen/Qwen2.5-VL-7B-Instruct --gpus 0,1
    --serve "vllm serve --tensor-parallel-size 2"
    """
    from difference_feedback.annotate.collection import collect_folder
    from difference_feedback.errors import ConfigError
    from difference_feedback.runs.loading import build_recipe
    from difference_feedback.runs.model_folder import model_of
    from difference_feedback.runs.outputs import check_output
    from difference_feedback.runs.recipes import EvaluateRecipe
    from difference_feedback.runs.terminal import Terminal

    if sum(option is not None and option != [] for option in (responses, model, url)) != 1:
        raise ConfigError("give one of --responses, --model and --url: where the answers come from")
    if (serve or gpus) and not model:
        raise ConfigError("--serve and --gpus start a server for --model: give the model, or --url alone")
    if gpus and not serve:
        raise ConfigError('--gpus are those of a server: give --serve "vllm serve", or set CUDA_VISIBLE_DEVICES')
    use_folder(output)
    for name in ("items.jsonl", "responses.jsonl"):
        check_output(output / name)
        rows = data.iterdir() if data.is_dir() else [data]
        keep_inputs("--output", output / name, [*rows, *(responses or [] if name == "items.jsonl" else [])])
    unknown = [word for word in settings or [] if word.partition("=")[0].partition(".")[0] not in KEYS]
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is none of the keys that count here: {', '.join(KEYS)}")
    model = model_of(model) if model else None
    here = model if model and not serve else "nano"  # the model that this process loads
    recipe = build_recipe(
        EvaluateRecipe, {"data": {"path": str(data)}, "model": here}, settings or [], "repair collect"
    )
    local = {"dtype": dtype, "attention": attention, "batch_size": batch_size}
    shared = {"samples": samples, "max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    console = Terminal(stderr=True, emoji=False, soft_wrap=True, highlight=False)
    collected = collect_folder(
        recipe,
        output,
        responses=responses or [],
        model=model,
        endpoint={"url": url, "model": url_model, "api_key_env": key_env} if url else None,
        serve={"command": serve, "gpus": gpus} if serve else None,
        sampling=shared | local,
        drawing={"limit": items, "per_question": per_question, "min_words": min_words, "seed": seed},
        console=console,
    )
    for what, count in collected.counts.items():
        if count:
            console.print(f"  {count:6d} {what}", markup=False)
    echo(f"{len(collected.items)} items: {output / 'items.jsonl'}")
    echo(f"Now: difference-feedback annotate {output}")
