"""`difference-feedback repair`: collect what it learns from, train it in two stages, and check what it is worth."""

import typer

from difference_feedback.commands.arguments import Arguments, Output, Overwrite, open_run, publish, say_results
from difference_feedback.commands.check import check
from difference_feedback.commands.collect import collect

repair_app = typer.Typer(
    help="Train the repair model: supervised on repaired answers ([bold]sft[/]), then by RL ([bold]rl[/]). Find out "
    "whether training with it is likely to pay ([bold]check[/]).",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

USAGE = "train RECIPE method=df-grpo repair_model="


repair_app.command("collect")(collect)
repair_app.command("check")(check)


@repair_app.command("sft")
def sft(arguments: Arguments = None, output: Output = None, overwrite: Overwrite = False) -> None:
    """Stage 1: supervised training on wrong answers and their repairs (Eq. 1).

    [bold]Example:[/] difference-feedback repair sft nano_repair_sft drafts=500 --output runs/repair_sft
    """
    from difference_feedback.runs.recipes import RepairSFTRecipe

    def check_settings(recipe: RepairSFTRecipe) -> None:
        from difference_feedback.repair.sft import sft_config

        sft_config(recipe)

    recipe, run = open_run(
        arguments, RepairSFTRecipe, "nano_repair_sft", output, overwrite, check_settings=check_settings
    )
    if not run.finished:
        from difference_feedback.repair.sft import train_sft

        train_sft(recipe, run)
    say_results(run, USAGE)
    publish(run, recipe.push_to_hub)


@repair_app.command("rl")
def rl(arguments: Arguments = None, output: Output = None, overwrite: Overwrite = False) -> None:
    """Stage 2: RL. A right repair is rewarded, each edit costs, and a repair that needs no image gains nothing (Eq. 4).

    visual_factor.enabled=false, audit.enabled=false and edit_cost_weight=0.0 each switch off one part of the reward.
    sft_only=true leaves stage 2 out.

    [bold]Example:[/] difference-feedback repair rl nano_repair_rl model=runs/repair_sft/model --output runs/repair_rl

    [bold]Example:[/] difference-feedback repair rl nano_repair_rl visual_factor.enabled=false --output runs/no_visual
    """
    from difference_feedback.runs.recipes import RepairRLRecipe

    def check_settings(recipe: RepairRLRecipe) -> None:
        from difference_feedback.repair.rl import rl_config

        rl_config(recipe)

    recipe, run = open_run(
        arguments, RepairRLRecipe, "nano_repair_rl", output, overwrite, check_settings=check_settings
    )
    if not run.finished:
        from difference_feedback.repair.rl import train_rl

        train_rl(recipe, run)
    say_results(run, USAGE)
    publish(run, recipe.push_to_hub)
