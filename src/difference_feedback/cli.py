"""The command line."""

import inspect
import re
import sys
import warnings
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from difference_feedback import __version__
from difference_feedback.commands.annotate import annotate
from difference_feedback.commands.base import base
from difference_feedback.commands.bench import bench
from difference_feedback.commands.data import data_app
from difference_feedback.commands.demo import demo
from difference_feedback.commands.evaluate import evaluate
from difference_feedback.commands.grade import grade
from difference_feedback.commands.mask import mask
from difference_feedback.commands.repair import repair_app
from difference_feedback.commands.report import report
from difference_feedback.commands.train import train
from difference_feedback.errors import DifferenceFeedbackError
from difference_feedback.runs.safe_path import use_safe_path

METHOD = """Difference Feedback: process-level supervision for vision-language models from outcome rewards alone.

When a sampled answer is wrong, a [bold]repair model[/] rewrites it into a right one with as few edits as it can. The \
two are aligned token by token; the edits become a [bold]mask[/] of weights on the policy's update: only the tokens \
that made the answer wrong are pushed down, and only their corrections pushed up."""
EPILOG = (
    "A recipe is a YAML file or the name of a shipped recipe. New values for its keys follow as key=value, with dots "
    "for nested keys: [bold]difference-feedback train nano_df_grpo seed=1 trl.learning_rate=2e-4 -o runs/first[/]. "
    "A run writes its resolved recipe, versions, metrics.jsonl, checkpoints and summary.json to its folder. The same "
    "command continues an interrupted run."
)


class MethodGroup(TyperGroup):
    """The commands in the method's order. Errors raised on purpose become one clean message and exit code 2."""

    def list_commands(self, ctx: Any) -> list[str]:
        return ["demo", "data", "base", "repair", "train", "evaluate", "mask", "grade", "annotate", "report", "bench"]

    def invoke(self, ctx: Any) -> Any:
        errors = Console(stderr=True, emoji=False, soft_wrap=True)
        try:
            return super().invoke(ctx)
        except DifferenceFeedbackError as error:
            if ctx.params.get("debug"):
                raise
            errors.print("Error:", style="bold red", end=" ")
            errors.print(str(error), markup=False, highlight=False)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            if ctx.params.get("debug"):
                raise
            again = "The same command continues a run from its last checkpoint, or else from the start."
            errors.print(f"Interrupted. {again}", style="yellow")
            raise typer.Exit(130) from None


app = typer.Typer(
    name="difference-feedback",
    cls=MethodGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    epilog=EPILOG,
)


def _paragraphs(text: str | None) -> str:
    """A docstring for the terminal: its lines joined into paragraphs, which the terminal wraps to its own width."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(text or ""))


START, STEPS, LOOK = "Start here", "The method, step by step", "Masks, grades, pages and comparisons"
PANELS = {START: (demo,), STEPS: (base, train, evaluate), LOOK: (mask, grade, annotate, report, bench)}
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel, help=_paragraphs(command.__doc__))(command)
for step in (*repair_app.registered_commands, *data_app.registered_commands):
    step.help = _paragraphs(step.callback.__doc__ if step.callback else None)
app.add_typer(data_app, name="data", rich_help_panel=START)
app.add_typer(repair_app, name="repair", rich_help_panel=STEPS)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"difference-feedback {__version__}")
        raise typer.Exit


@app.callback(help=METHOD)
def method(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of all commands."""
    if not debug:  # TRL sets options that transformers has renamed; users can do nothing about that
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def main() -> None:
    """Entry point of the console script."""
    use_safe_path()
    sys.exit(app())


if __name__ == "__main__":
    main()
