"""`difference-feedback train`: the policy, with Difference Feedback or without."""

from difference_feedback.commands.arguments import Arguments, Output, Overwrite, open_run, publish, say_results
from difference_feedback.runs.terminal import echo


def train(arguments: Arguments = None, output: Output = None, overwrite: Overwrite = False) -> None:
    """Train the policy, with Difference Feedback or by the plain objective (Eqs. 11-23).

    The key `objective` is grpo, gspo, dapo, dr_grpo, sapo, cispo or ppo. The key `host` is trl or verl. PPO needs verl.

    [bold]Example:[/] difference-feedback train nano_df_grpo repair_model=runs/repair_rl/model trl.max_steps=200

    [bold]Example:[/] difference-feedback train nano_grpo objective=gspo --output runs/gspo

    [bold]Example:[/] difference-feedback train my_recipe.yaml host=verl objective=ppo

    [bold]Example:[/] difference-feedback train my_recipe.yaml reward=my_reward.py:accuracy report_to=tensorboard
    """
    from difference_feedback.runs.recipes import TrainRecipe

    def check_settings(recipe: TrainRecipe) -> None:
        if recipe.host == "verl":
            from difference_feedback.verl.translate import gpus_here, overrides

            overrides(recipe, gpus_here())
        else:
            from difference_feedback.policy.train import host_config, refuse_other_tokens

            host_config(recipe)
            refuse_other_tokens(recipe)

    recipe, run = open_run(arguments, TrainRecipe, "nano_df_grpo", output, overwrite, check_settings=check_settings)
    if not run.finished and recipe.host == "verl":
        from difference_feedback.verl.launch import launch

        launch(recipe, run)
        echo(f"Checkpoints: {run.checkpoints}\nSummary: {run.folder / 'summary.json'}")
        return
    if not run.finished:
        from difference_feedback.policy.train import train as train_policy

        train_policy(recipe, run)
    say_results(run)
    publish(run, recipe.push_to_hub)
