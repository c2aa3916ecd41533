"""`difference-feedback repair sft` and `repair rl`: the repair model's two stages."""

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
def rl(arguments: Arguments = None, output: Output = None, overwrite: Overwrite = False) -> None:
    """Stage 2: reward right repairs, charge for edits, and give nothing for repairs made without looking (Eq. 4).

    Keys of the recipe switch single parts of the reward off: visual_factor.enabled=false, audit.enabled=false,
    edit_cost_weight=0.0; sft_only=true takes the model as stage 1 left it.

    [bold]Example:[/] difference-feedback repair rl nano_repair_rl model=runs/repair_sft/model --output runs/repair_rl

    [bold]Example:[/] difference-feedback repair rl nano_repair_rl visual_factor.enabled=false --output runs/no_visual
    """
    from difference_feedback.runs.recipes import RepairRLRecipe

    recipe, run = open_run(arguments, RepairRLRecipe, "nano_repair_rl", output, overwrite)
    if run.finished:
        return
    from difference_feedback.repair.rl import train_rl

    train_rl(recipe, run)
