"""`difference-feedback repair sft` and `repair rl`: the repair model's two stages."""

from typing import Annotated

import typer

from difference_feedback.commands.arguments import Arguments, Output, Overwrite, open_run
from difference_feedback.commands.collect import collect

repair_app = typer.Typer(
    help="Train the repair model: supervised on hand-repaired answers ([bold]sft[/]), then by RL ([bold]rl[/]).",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


repair_app.command("collect")(collect)


@repair_app.command("sft")
def sft(arguments: Arguments = None, output: Output = None, overwrite: Overwrite = False) -> None:
    """Stage 1: learn to rewrite wrong answers from hand-repaired ones (Eq. 1).

    [bold]Example:[/] difference-feedback repair sft nano_repair_sft drafts=500 --output runs/repair_sft
    """
    from difference_feedback.runs.recipes import RepairSFTRecipe

    recipe, run = open_run(arguments, RepairSFTRecipe, "nano_repair_sft", output, overwrite)
    if run.finished:
        return
    from difference_feedback.repair.sft import train_sft

    train_sft(recipe, run)


@repair_app.command("rl")
def rl(
    arguments: Arguments = None,
    output: Output = None,
    overwrite: Overwrite = False,
    no_c1: Annotated[bool, typer.Option("--no-c1", help="Leave out the blank-image gate (Eq. 3).")] = False,
    no_audit: Annotated[bool, typer.Option("--no-audit", help="Leave out the auditor's gate.")] = False,
    lam: Annotated[
        float | None,
        typer.Option("--lambda", min=0.0, help="Price of edits; 0 makes them free.", show_default=False),
    ] = None,
    sft_only: Annotated[bool, typer.Option("--sft-only", help="Take the model as stage 1 left it.")] = False,
) -> None:
    """Stage 2: reward right repairs, charge for edits, and give nothing for repairs made without looking (Eq. 4).

    The options switch single factors of the reward off; they are short for keys of the recipe.

    [bold]Example:[/] difference-feedback repair rl nano_repair_rl model=runs/repair_sft/model --output runs/repair_rl

    [bold]Example:[/] difference-feedback repair rl nano_repair_rl --no-c1 --lambda 0 --output runs/no_gate
    """
    from difference_feedback.runs.recipes import RepairRLRecipe

    switched = [
        *(["visual_factor.enabled=false"] if no_c1 else []),
        *(["audit.enabled=false"] if no_audit else []),
        *([f"edit_cost_weight={lam}"] if lam is not None else []),
        *(["sft_only=true"] if sft_only else []),
    ]
    given = [*(arguments or ()), *switched]
    recipe, run = open_run(given, RepairRLRecipe, "nano_repair_rl", output, overwrite)
    if run.finished:
        return
    from difference_feedback.repair.rl import train_rl

    train_rl(recipe, run)
