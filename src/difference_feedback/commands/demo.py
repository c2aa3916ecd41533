"""`difference-feedback demo`: the whole method in one command."""

from difference_feedback.commands.arguments import Arguments, Output, Overwrite, open_run


def demo(arguments: Arguments = None, output: Output = None, overwrite: Overwrite = False) -> None:
    """Run the whole method on this machine's CPU in minutes, and write a report.

    It trains the repair model (supervised, then RL). Then it trains the policy by GRPO and by DF-GRPO with the same
    processor time, by DF-GRPO with perfect repairs, and with labels as an upper bound. The last line printed is the
    path of the HTML report.

    [bold]Example:[/] difference-feedback demo --output runs/demo
    """
    from difference_feedback.bench.cells import check_plan, check_settings
    from difference_feedback.runs.recipes import BenchRecipe

    plan, run = open_run(
        arguments, BenchRecipe, "demo", output, overwrite, check=check_plan, check_settings=check_settings
    )
    from difference_feedback.bench.demo import run_demo

    run_demo(plan, run)
