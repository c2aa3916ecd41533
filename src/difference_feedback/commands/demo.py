"""`difference-feedback demo`: the whole method in one command."""

from difference_feedback.commands.arguments import Arguments, Output, Overwrite, open_run


def demo(arguments: Arguments = None, output: Output = None, overwrite: Overwrite = False) -> None:
    """Run the whole method on this machine's CPU in minutes, and write a report.

    A plan of `bench` with a report: the repair model (supervised, then RL), the policy by GRPO and by DF-GRPO at the
    same measured compute, what perfect repairs would give, and a supervised upper bound. The path of the HTML report is
    printed last.

    [bold]Example:[/] difference-feedback demo --output runs/demo
    """
    from difference_feedback.bench.cells import check_plan
    from difference_feedback.runs.recipes import BenchRecipe

    plan, run = open_run(arguments, BenchRecipe, "demo", output, overwrite, check=check_plan)
    from difference_feedback.bench.demo import run_demo

    run_demo(plan, run)
