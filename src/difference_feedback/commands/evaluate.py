"""`difference-feedback evaluate`: accuracy of a model on held-out problems."""

from difference_feedback.commands.arguments import Arguments, Output, Overwrite, open_run


def evaluate(arguments: Arguments = None, output: Output = None, overwrite: Overwrite = False) -> None:
    """Measure a model's accuracy on held-out problems, with intervals, and write every prediction to a file.

    [bold]Example:[/] difference-feedback evaluate nano_evaluate model=runs/nano_df_grpo/model evaluation.problems=600
    """
    from difference_feedback.runs.recipes import EvaluateRecipe

    recipe, run = open_run(arguments, EvaluateRecipe, "nano_evaluate", output, overwrite)
    from rich.console import Console

    from difference_feedback.policy.evaluation import evaluate_recipe, show
    from difference_feedback.runs.first_rank import is_first_rank

    summary = run.summary() if run.finished else evaluate_recipe(recipe, run)
    if is_first_rank():
        show(summary, Console(emoji=False))
