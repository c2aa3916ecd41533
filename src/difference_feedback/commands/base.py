"""`difference-feedback base`: train the nano base model."""

from difference_feedback.commands.arguments import Arguments, Output, Overwrite, open_run
from difference_feedback.runs.terminal import echo


def base(arguments: Arguments = None, output: Output = None, overwrite: Overwrite = False) -> None:
    """Train the nano base: a small Qwen2.5-VL that writes fluently and often misreads images.

    The package ships the base of the default recipe, so you need this only for other settings. It takes some twenty
    minutes on one core. Each recipe has its own folder, runs/base-<hash of the recipe>.

    [bold]Example:[/] difference-feedback base nano_base seed=1 --output runs/base_1
    """
    from difference_feedback.runs.loading import fingerprint
    from difference_feedback.runs.recipes import BaseRecipe

    recipe, run = open_run(
        arguments, BaseRecipe, "nano_base", output, overwrite, folder=lambda recipe: f"base-{fingerprint(recipe)}"
    )
    if not run.finished:
        from difference_feedback.bench.base import build_base

        build_base(recipe, run)
    summary = run.summary()
    bound = f", supervised upper bound {summary['upper_bound']:.1%}" if "upper_bound" in summary else ""
    echo(f"Start {summary['accuracy']:.1%} of {summary['problems']} held-out problems{bound}.")
    echo(f"Model: {run.model_path}\nSummary: {run.folder / 'summary.json'}")
