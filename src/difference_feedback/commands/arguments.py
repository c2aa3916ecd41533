"""What the commands that run a recipe have in common: their arguments, and the folder they open."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from difference_feedback.runs.folder import Run
    from difference_feedback.runs.recipes import Recipe

R = TypeVar("R", bound="Recipe")

Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RECIPE | KEY=VALUE",
        help="A YAML file or a shipped recipe's name, then values that replace the recipe's own.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Folder of the run. [dim]\\[default: runs/<recipe>][/]", show_default=False),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Start anew where the folder holds another run.")]


def split_arguments(arguments: Sequence[str] | None, default: str) -> tuple[str, list[str]]:
    """The recipe's name and the overrides; the recipe may be left out."""
    given = list(arguments or ())
    if given and ("=" not in given[0] or Path(given[0]).is_file()):
        return given[0], given[1:]
    return default, given


def open_run(
    arguments: Sequence[str] | None,
    kind: type[R],
    default: str,
    output: Path | None,
    overwrite: bool,
    folder: Callable[[R], str] | None = None,
) -> tuple[R, "Run"]:
    """Load the recipe and open its folder, below `runs` by the recipe's name, or by `folder(recipe)`.

    Raises `ConfigError` as `load_recipe` and `Run` do.
    """
    from difference_feedback.runs.folder import Run
    from difference_feedback.runs.loading import load_recipe

    name, overrides = split_arguments(arguments, default)
    recipe = load_recipe(name, kind, overrides)
    run = Run(output or Path("runs") / (folder(recipe) if folder else Path(name).stem), recipe, overwrite=overwrite)
    if run.finished:
        typer.echo(f"{run.folder} is finished already; --overwrite runs it anew.")
    elif run.resumed:
        typer.echo(f"Continuing the run in {run.folder}.")
    return recipe, run
