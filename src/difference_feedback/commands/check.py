"""`difference-feedback repair check`: is training with this repair model likely to pay?"""

import os

from difference_feedback.commands.arguments import Arguments, Output, Overwrite, open_run
from difference_feedback.errors import ConfigError
from difference_feedback.runs.terminal import echo


def check(arguments: Arguments = None, output: Output = None, overwrite: Overwrite = False) -> None:
    """Before you spend GPUs: how good is a repair model on your policy's wrong answers, and is training likely to pay?

    It repairs wrong answers of the policy, sampled here or from a file, and measures how many repairs are right, clean
    and small, what they cost, and whether they need the image. It places the model on a chart of what such repairs
    gained over GRPO, and says in one sentence whether training with them is likely to pay. Without arguments it shows
    this in the embedded world, in half a minute.

    Whether right repairs are clean is known there. Elsewhere an auditor says so (audit.endpoint), or people do: after
    `difference-feedback annotate FOLDER` on the run's folder, the same command reads what they said.

    [bold]Example:[/] difference-feedback repair check

    [bold]Example:[/] difference-feedback repair check repair_model=runs/repair_rl policy=Qwen/Qwen2.5-VL-7B-Instruct
    data.path=held_out.jsonl run=runs/grpo dtype=bfloat16 sampling.max_new_tokens=2048 --output runs/check

    [bold]Example:[/] difference-feedback repair check wrong_answers=held_out/items.jsonl
    policy=Qwen/Qwen2.5-VL-7B-Instruct repair_model=null repairs.via=endpoint
    repairs.endpoint.url=http://127.0.0.1:8000/v1 repairs.endpoint.model=repair
    """
    from difference_feedback.runs.check_repair import check_repair_check
    from difference_feedback.runs.repair_check import RepairCheckRecipe
    from difference_feedback.runs.terminal import Terminal

    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError("repair check runs in one process: start it without `accelerate launch` or `torchrun`.")
    recipe, run = open_run(
        arguments, RepairCheckRecipe, "nano_repair_check", output, overwrite, check=check_repair_check
    )
    from difference_feedback.report.repair_check import PAGE, finish_check, show_check

    if not run.finished:
        from difference_feedback.policy.repair_check import measure_repairs

        measure_repairs(recipe, run)
    show_check(finish_check(recipe, run), Terminal(emoji=False))
    echo(f"Page: {run.folder / PAGE}\nRepairs: {run.folder / 'repairs.jsonl'}")
