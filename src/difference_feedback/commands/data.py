"""`difference-feedback data check`: what a file of questions is read as, before anything is trained on it."""

from pathlib import Path
from typing import Annotated

import typer

from difference_feedback.commands.arguments import keep_inputs, path_option
from difference_feedback.runs.terminal import echo

data_app = typer.Typer(help="Look at your own data.", no_args_is_help=True, rich_markup_mode="rich")


@data_app.command("check")
def check(
    path: Annotated[
        str, typer.Argument(metavar="FILE", help="A file of rows, a folder, or a hub name, as the key data.path.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Keys of a recipe: data.columns.question=..., model=..., max_prompt_length=...",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[int, typer.Option(help="Rows that are shown as the model will see them.", min=0)] = 10,
    html: Annotated[
        Path | None,
        path_option(
            help="Also write a page with these rows and their images; - prints it.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Say how a file of questions is read: its form, the usable rows, why the others are left out, and prompts.

    With `model=`, a folder or a hub name, the tokens of the prompts are counted, and the share that is over the limit
    is printed. The model's processor is loaded, its weights are not. The exit code is 1 if no row is usable.

    [bold]Example:[/] difference-feedback data check questions.csv

    [bold]Example:[/] difference-feedback data check train.parquet data.columns.answer=truth.text data.image_root=images

    [bold]Example:[/] difference-feedback data check lmms-lab/ai2d data.split=test model=Qwen/Qwen2.5-VL-7B-Instruct
    --html page.html
    """
    from difference_feedback.report.data_check import check_data, print_check, write_check_page
    from difference_feedback.runs.check import check as check_recipe
    from difference_feedback.runs.loading import build_recipe
    from difference_feedback.runs.outputs import check_output, is_stdout
    from difference_feedback.runs.recipes import EvaluateRecipe
    from difference_feedback.runs.terminal import Terminal

    printed = html is not None and is_stdout(html)
    if html:
        check_output(html, "--html")
        keep_inputs("--html", html, [Path(path).expanduser()])
    words = list(overrides or ())
    names_model = any(word.startswith("model=") for word in words)
    values = {"kind": "evaluate", "data": {"path": path}}
    recipe = build_recipe(EvaluateRecipe, values, words, source="data check")
    check_recipe(recipe)
    result = check_data(recipe, recipe.model if names_model else None, rows)
    print_check(result, Terminal(emoji=False, soft_wrap=True, highlight=False, stderr=printed))
    if html:
        write_check_page(html, result)
        echo(f"Page: {html}", err=printed)
    if not len(result.loaded.dataset):
        raise typer.Exit(1)
