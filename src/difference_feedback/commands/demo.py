"""`difference-feedback demo`: the whole method in one command."""

from difference_feedback.commands.arguments import Arguments, Output, Overwrite, open_run


def demo(arguments: Arguments = None, output: Output = None, overwrite: Overwrite = False) -> None:
    """Run the whole method on this machine's CPU in minutes, and write a report.

    Base model, repair model (supervised, then RL), policy by GRPO and by DF-GRPO at the same measured compute,
    held-out evaluation. The path of the HTML report is printed last.

    [bold]Example:[/] difference-feedback demo --output runs/demo
    """
    from difference_feedback.runs.recipes import DemoRecipe

    recipe, run = open_run(arguments, DemoRecipe, "demo", output, overwrite)
    from difference_feedback.bench.demo import run_demo

    run_demo(recipe, run)
