"""The command line."""

import inspect
import io
import logging
import os
import re
import signal
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from difference_feedback import __version__
from difference_feedback.commands.annotate import annotate
from difference_feedback.commands.arguments import RUN_FOLDER
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
from difference_feedback.errors import ConfigError, DifferenceFeedbackError
from difference_feedback.runs.lock import check_held
from difference_feedback.runs.outputs import explain, refusal
from difference_feedback.runs.safe_path import use_safe_path
from difference_feedback.runs.terminal import Terminal

METHOD = """Difference Feedback: process-level supervision for vision-language models from outcome rewards alone.

When a sampled answer is wrong, a [bold]repair model[/] rewrites it into a right one with as few edits as it can. The \
two are aligned token by token; the edits become a [bold]mask[/] of weights on the policy's update: only the tokens \
that made the answer wrong are pushed down, and only their corrections pushed up."""
EPILOG = (
    "A recipe is a YAML file or the name of a shipped recipe. New values for its keys follow as key=value, with dots "
    "for nested keys: [bold]difference-feedback train nano_grpo seed=1 trl.learning_rate=2e-4 -o runs/first[/]. "
    "A run writes its resolved recipe, versions, metrics.jsonl, checkpoints and summary.json to its folder. The same "
    "command continues an interrupted run."
)


class Terminated(KeyboardInterrupt):
    """SIGTERM, as batch systems and `kill` send it: the command ends as after Ctrl+C."""


class MethodGroup(TyperGroup):
    """The commands in the method's order. Errors raised on purpose, and what the system refuses, become one clean
    message and exit code 2. An error of the program itself keeps its traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        return ["demo", "data", "base", "repair", "train", "evaluate", "mask", "grade", "annotate", "report", "bench"]

    def invoke(self, ctx: Any) -> Any:
        RUN_FOLDER.set(None)
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt as stop:
            if ctx.params.get("debug"):
                raise
            again = "The same command continues a run from its last checkpoint, or else from the start."
            _errors().print(f"Interrupted. {again}", style="yellow")
            raise typer.Exit(143 if isinstance(stop, Terminated) else 130) from None
        except (Exception, SystemExit) as error:
            message = _message(error)
            if message is None and RUN_FOLDER.get() is not None and isinstance(error, Exception):
                error.add_note(f"{RUN_FOLDER.get()} is kept: the same command goes on from there.")
            if message is None or ctx.params.get("debug"):
                raise
            _say(message)
            raise typer.Exit(2) from None


def _errors() -> Terminal:
    return Terminal(stderr=True, emoji=False, soft_wrap=True)


def _message(error: BaseException) -> str | None:
    """What a user can do about an error; None where it is a fault of the program."""
    if isinstance(error, DifferenceFeedbackError):
        return str(error)
    place = RUN_FOLDER.get()
    again = f" {place} is kept: the same command goes on from there." if place and os.path.isdir(place) else ""
    if isinstance(error, SystemExit):  # of rich, where nobody reads what it prints
        unread = error.__context__
        return f"{explain(unread, 'standard output')}.{again}" if isinstance(unread, BrokenPipeError) else None
    refused = refusal(error)
    if refused is None:
        return None
    try:
        check_held()
    except ConfigError as moved:
        return str(moved)
    if refused.filename is None and not _is_printed():
        return f"{explain(refused, 'standard output')}.{again}"
    return f"{explain(refused, place)}.{again}"


def _is_printed() -> bool:
    """Whether the standard output takes what is printed."""
    try:
        sys.stdout.flush()
    except OSError:
        return False
    return True


def _say(message: str) -> None:
    errors = _errors()
    errors.print("Error:", style="bold red", end=" ")
    errors.print(message, markup=False, highlight=False)


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
    logging.raiseExceptions = debug  # where a log cannot be printed, as to a closed pipe, the errors are of no use
    if not debug:  # TRL sets options that transformers has renamed; users can do nothing about that
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def _terminate(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: the rest of this process cleans up
    raise Terminated


def main() -> None:
    """Entry point of the console script."""
    use_safe_path()
    if not _mend_streams():
        _say("standard output is closed, so that nothing printed would be seen: redirect it, for example > /dev/null.")
        sys.exit(2)
    signal.signal(signal.SIGTERM, _terminate)
    code: Any = 0
    try:
        app()
    except SystemExit as end:
        code = end.code
    try:
        sys.stdout.flush()
    except OSError as error:
        _say(f"{explain(error, 'standard output')}.")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is left in the buffer
        code = code or 2
    sys.exit(code)


def _mend_streams() -> bool:
    """Open the standard streams that are closed, or the next file would take their place. Whether the output was open.

    What cannot be encoded, as a name of a file may be, is printed escaped.
    """
    was_open = sys.stdout is not None
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return was_open


if __name__ == "__main__":
    main()
