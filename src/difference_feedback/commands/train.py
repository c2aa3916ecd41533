"""`difference-feedback train`: the policy, by GRPO or DF-GRPO."""

import typer

from difference_feedback.commands.arguments import Arguments, Output, Overwrite, open_run


def train(arguments: Arguments = None, output: Output = None, overwrite: Overwrite = False) -> None:
    """Train the policy by GRPO or, with a repair model, by DF-GRPO (Eqs. 11-23).

    [bold]Example:[/] difference-feedback train nano_df_grpo repair_model=runs/repair_rl/model trl.max_steps=200
    """
    from difference_feedback.recipes import TrainRecipe

    recipe, run = open_run(arguments, TrainRecipe, "nano_df_grpo", output, overwrite)
    if not run.finished:
        from difference_feedback.train import train as train_policy

        train_policy(recipe, run)
    typer.echo(f"Model: {run.model_path}\nSummary: {run.folder / 'summary.json'}")
