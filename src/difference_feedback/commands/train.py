"""`difference-feedback train`: the policy, with Difference Feedback or without."""

from typing import Annotated

import typer

from difference_feedback.commands.arguments import Arguments, Output, Overwrite, open_run


def train(
    arguments: Arguments = None,
    output: Output = None,
    overwrite: Overwrite = False,
    objective: Annotated[
        str | None,
        typer.Option("--objective", help="grpo, gspo, dapo, dr_grpo, sapo or cispo.", show_default=False),
    ] = None,
) -> None:
    """Train the policy with a repair model's feedback, or by the plain objective (Eqs. 11-23).

    `--objective` is short for the recipe's key of that name.

    [bold]Example:[/] difference-feedback train nano_df_grpo repair_model=runs/repair_rl/model trl.max_steps=200

    [bold]Example:[/] difference-feedback train nano_grpo --objective gspo --output runs/gspo
    """
    from difference_feedback.recipes import TrainRecipe

    given = [*(arguments or ()), *([f"objective={objective}"] if objective else [])]
    recipe, run = open_run(given, TrainRecipe, "nano_df_grpo", output, overwrite)
    if not run.finished:
        from difference_feedback.train import train as train_policy

        train_policy(recipe, run)
    typer.echo(f"Model: {run.model_path}\nSummary: {run.folder / 'summary.json'}")
