"""`difference-feedback evaluate`: a model's accuracy on held-out problems, or its scores on public benchmarks."""

import os.path
from pathlib import Path
from typing import Annotated, Any

import typer

from difference_feedback.commands.arguments import Overwrite, open_run, path_option, use_folder
from difference_feedback.errors import ConfigError
from difference_feedback.runs.terminal import echo


def evaluate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECIPE | MODEL TASK... | KEY=VALUE",
            help="A recipe, or a model and the benchmarks to run; then keys with new values.",
            show_default=False,
        ),
    ] = None,
    task_data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK=PATH",
            help="A local copy of a benchmark's data. May be given several times.",
            show_default=False,
        ),
    ] = None,
    harness: Annotated[
        str | None,
        typer.Option(
            help="The Python that has lmms-eval. [dim]\\[default: $DIFFERENCE_FEEDBACK_HARNESS, or "
            ".venv-harness/bin/python][/]",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        path_option(
            "--output",
            "-o",
            help="Folder of the run. [dim]\\[default: runs/<recipe>; of benchmarks, benchmarks in the model's run, or "
            "runs/benchmarks/<model>][/]",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure a model on held-out problems or on public benchmarks, with intervals, and keep every answer.

    With a recipe, the problems are the embedded ones or your own `data`. With a model and names of tasks, the harness
    lmms-eval asks: mathvista, mmstar, mmmu, mathverse, mathvision, ai2d, or any other task of it. The model is a hub
    name, a run's folder, a checkpoint, or an adapter. Finished tasks are not run again.

    [bold]Example:[/] difference-feedback evaluate nano_evaluate model=runs/nano_df_grpo/model evaluation.problems=600

    [bold]Example:[/] difference-feedback evaluate runs/df_gspo mathvista mmstar mmmu mathverse mathvision ai2d

    [bold]Example:[/] difference-feedback evaluate Qwen/Qwen2.5-VL-7B-Instruct mathvista max_new_tokens=2048
    endpoint.url=http://127.0.0.1:8011/v1 endpoint.serve.command="vllm serve"

    [bold]Example:[/] difference-feedback evaluate runs/df_gspo ai2d --task-data ai2d=copies/ai2d
    """
    words = [word for word in arguments or () if "=" not in word or os.path.exists(word)]
    overrides = [word for word in arguments or () if word not in words]
    if len(words) > 1:
        values = {"kind": "benchmarks", "model": words[0], "tasks": words[1:]}
        _benchmarks(values, task_data or [], overrides, harness, output, overwrite)
        return
    if words and (of_file := _values_of_benchmarks(Path(words[0]))) is not None:
        _benchmarks(of_file, task_data or [], overrides, harness, output, overwrite)
        return
    if task_data or harness:
        raise ConfigError("--task-data and --harness are for benchmarks: name a model and tasks, as in --help.")
    if words and os.path.isdir(words[0]):
        raise ConfigError(
            f"{words[0]} is a folder: name the benchmarks to run, for example mathvista mmstar mmmu, or give a recipe "
            f"and model={words[0]}."
        )
    from difference_feedback.runs.recipes import EvaluateRecipe

    recipe, run = open_run(arguments, EvaluateRecipe, "nano_evaluate", output, overwrite)
    from difference_feedback.policy.evaluation import evaluate_recipe, show
    from difference_feedback.runs.first_rank import is_first_rank
    from difference_feedback.runs.terminal import Terminal

    summary = run.summary() if run.finished else evaluate_recipe(recipe, run)
    if is_first_rank():
        show(summary, Terminal(emoji=False))


def _values_of_benchmarks(path: Path) -> dict[str, Any] | None:
    """What a recipe of kind `benchmarks` holds; None for any other file, and for a name."""
    from difference_feedback.runs.yaml_text import read_yaml

    if path.suffix not in (".yaml", ".yml") or not os.path.isfile(path):
        return None
    values = read_yaml(path)
    return values if isinstance(values, dict) and values.get("kind") == "benchmarks" else None


def _benchmarks(
    values: dict[str, Any],
    copies: list[str],
    overrides: list[str],
    harness: str | None,
    output: Path | None,
    overwrite: bool,
) -> None:
    from difference_feedback.policy.benchmarks import place_for, run_benchmarks
    from difference_feedback.report.benchmarks import show_scores
    from difference_feedback.report.collect import load_scores
    from difference_feedback.runs.first_rank import is_first_rank
    from difference_feedback.runs.loading import build_recipe
    from difference_feedback.runs.recipes import BenchmarksRecipe
    from difference_feedback.runs.terminal import Terminal

    recipe = build_recipe(BenchmarksRecipe, values, overrides, source="evaluate")
    place = place_for(recipe.model)
    data = dict(recipe.data)
    for copy in copies:
        task, separator, path = copy.partition("=")
        if not separator or not path:
            raise ConfigError(f"--task-data {copy}: write TASK=PATH, for example mathvista=copies/mathvista.")
        data[task] = path
    recipe = recipe.model_copy(update={"model": place.model, "data": data})
    console = Terminal(stderr=True, emoji=False, soft_wrap=True)
    folder = output or place.folder
    use_folder(folder)
    folders = run_benchmarks(recipe, folder, console, python=harness, overwrite=overwrite)
    if is_first_rank():
        scores = {score.task: score for score in load_scores(folder)}
        show_scores([scores[path.name] for path in folders], Terminal(emoji=False))
        echo(f"Results: {folder}\nSide by side with other models: difference-feedback report {folder} RUN...")
