"""`difference-feedback base`: the nano base model."""

from difference_feedback.commands.arguments import Arguments, Output, Overwrite, open_run


def base(arguments: Arguments = None, output: Output = None, overwrite: Overwrite = False) -> None:
    """Train the nano base: a small Qwen2.5-VL that is fluent and reads images imperfectly.

    The package ships one made by the default recipe, so this is needed for another size, task mixture or seed alone.

    [bold]Example:[/] difference-feedback base nano_base seed=1 --output runs/base_1
    """
    from difference_feedback.recipes import BaseRecipe

    recipe, run = open_run(arguments, BaseRecipe, "nano_base", output, overwrite)
    if run.finished:
        return
    from difference_feedback.nano.base import build_base

    build_base(recipe, run)
