"""The arguments of the commands that run a recipe, and the folder of the run."""

import os
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from difference_feedback.errors import ConfigError
from difference_feedback.runs.terminal import echo

if TYPE_CHECKING:
    from difference_feedback.runs.folder import Run
    from difference_feedback.runs.recipes import Recipe

R = TypeVar("R", bound="Recipe")
RUN_FOLDER: ContextVar[Path | None] = ContextVar("RUN_FOLDER", default=None)
"""The folder of the command's run, once it is known. Errors name it, since the same command goes on there."""


def named_path(text: str | Path) -> Path:
    """The path that an option names. An empty one, as of a shell's variable that is not set, is refused."""
    if not str(text).strip():
        raise typer.BadParameter("it is empty: name a path, or leave the option out")
    return Path(text).expanduser() if str(text).startswith("~/") else Path(text)


Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RECIPE | KEY=VALUE",
        help="A YAML file or the name of a shipped recipe, then keys with new values.",
        show_default=False,
    ),
]


def path_option(*names: str, help: str, show_default: bool = True) -> Any:
    """An option that names a path, as `typer.Option`."""
    return typer.Option(*names, parser=named_path, metavar="PATH", help=help, show_default=show_default)


Output = Annotated[
    Path | None,
    path_option("--output", "-o", help="Folder of the run. [dim]\\[default: runs/<recipe>][/]", show_default=False),
]
RowJobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        help="Number of cores to use. [dim]\\[default: 1 for small files, else all, up to 16][/]",
        show_default=False,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Remove the run in the folder, and start again.")]


def keep_inputs(option: str, output: Path, inputs: Iterable[Path]) -> None:
    """Raise `ConfigError` where a command would write over a file that it reads, be it by another name or a link."""
    for path in inputs:
        if output.is_file() and path.is_file() and path.samefile(output):
            raise ConfigError(f"{option}: {output} is the input {path}, and would be lost: give another file.")


def output_beside(source: Path, kind: str) -> Path:
    """The output where none is named: `NAME.kind.jsonl` beside the input.

    Raises `ConfigError` for an input that is a pipe or a device.
    """
    from difference_feedback.runs.file_names import beside

    if source.exists() and not source.is_file() and not source.is_dir():
        raise ConfigError(f"--output: {source} is no file that another could stand beside: give --output; - prints it.")
    return beside(source, kind)


def say_results(run: "Run", usage: str = "") -> None:
    """Print where the model and the summary of a finished run are, and on a last line the `usage` of the model."""
    from difference_feedback.runs.first_rank import is_first_rank

    if is_first_rank():
        echo(f"Model: {run.model_path}\nSummary: {run.folder / 'summary.json'}")
        if usage:
            echo(f"Now: difference-feedback {usage}{run.model_path}")


def publish(run: "Run", repository: str | None) -> None:
    """Upload the model of a finished run, where its recipe says `push_to_hub`. Raises as `runs.hub.upload`."""
    if repository is not None:
        from difference_feedback.runs.hub import upload

        if address := upload(run, repository):
            echo(f"On the hub: {address}")


def split_arguments(arguments: Sequence[str] | None, default: str) -> tuple[str, list[str]]:
    """The recipe's name and the overrides; the recipe may be left out."""
    words = list(arguments or ())
    if words and ("=" not in words[0] or os.path.isfile(words[0])):  # unlike `Path`, it takes any text
        return words[0], words[1:]
    return default, words


def use_folder(folder: Path) -> None:
    """Take the folder for the command's run. Raises `ConfigError` as `check_folder`."""
    from difference_feedback.runs.first_rank import is_first_rank
    from difference_feedback.runs.outputs import check_folder

    if is_first_rank():
        check_folder(folder)
    RUN_FOLDER.set(folder)


def open_run(
    arguments: Sequence[str] | None,
    kind: type[R],
    default: str,
    output: Path | None,
    overwrite: bool,
    folder: Callable[[R], str] | None = None,
    check: Callable[[R], None] | None = None,
    check_settings: Callable[[R], object] | None = None,
) -> tuple[R, "Run"]:
    """Load and check the recipe, then open its folder, below `runs` by the recipe's name, or by `folder(recipe)`.

    `check` is `runs.check.check` unless the recipe has parts of its own, as a plan has. `check_settings` comes after it
    and checks what stands under `trl:`; it has to import TRL. A finished run is not checked.

    Raises `ConfigError` as `load_recipe`, `check_folder`, `check`, `check_settings` and `Run`.
    """
    from difference_feedback.runs.check import check as check_recipe
    from difference_feedback.runs.check_repair import NO_MODEL
    from difference_feedback.runs.file_names import bare_name
    from difference_feedback.runs.first_rank import is_first_rank
    from difference_feedback.runs.folder import Run
    from difference_feedback.runs.hub import check_on_hub
    from difference_feedback.runs.loading import MODELS, load_recipe
    from difference_feedback.runs.lock import check_free

    try:
        os.getcwd()
    except FileNotFoundError:  # libraries of torch end the process
        raise ConfigError("the folder that this command was started in was removed: change to another one.") from None
    name, overrides = split_arguments(arguments, default)
    recipe = load_recipe(name, kind, overrides)
    path = output or Path("runs") / (folder(recipe) if folder else bare_name(name))
    use_folder(path)
    if is_first_rank():
        check_free(path)
    if overwrite:
        _keep_what_is_read(recipe, path)
    if overwrite or not (path / "summary.json").is_file():
        (check or check_recipe)(recipe)
        for key in MODELS:
            if isinstance(model := getattr(recipe, key, None), str) and model not in NO_MODEL:
                check_on_hub(model, key)
        if check_settings:
            check_settings(recipe)
    run = Run(path, recipe, overwrite=overwrite)
    if not is_first_rank():
        return recipe, run
    if run.finished:
        echo(f"{run.folder} is finished already; --overwrite runs it again.")
    elif run.resumed:
        echo(f"Continuing the run in {run.folder}.")
    return recipe, run


def _keep_what_is_read(recipe: "Recipe", folder: Path) -> None:
    """Raise `ConfigError` where `--overwrite` would remove a model or data that the recipe names."""
    for key in ("model", "repair_model", "policy", "data", "test_data", "wrong_answers", "run"):
        value = getattr(recipe, key, None)
        name = getattr(value, "path", value)
        path = Path(str(name)).expanduser()
        if name is not None and path.exists() and path.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"--overwrite would remove {name}, which {key} reads: give another --output.")
