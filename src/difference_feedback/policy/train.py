"""Run a `train` recipe: the policy by GRPO, DF-GRPO or a peer, with budget, evaluation, checkpoints and resume."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PrinterCallback

from difference_feedback.errors import ConfigError
from difference_feedback.judges.questions import held_out, part_of, reward_functions, training_data, training_problems
from difference_feedback.method.cost import ledger
from difference_feedback.models.adapters import add_repair_adapter, check_targets, name_base
from difference_feedback.models.billing import bill_servers
from difference_feedback.models.processor import load_processor
from difference_feedback.models.ranks import ranks, say_idle_devices
from difference_feedback.models.scoring import other_token
from difference_feedback.policy.callbacks import EvaluateHeldOut, Watcher
from difference_feedback.policy.evaluation import Evaluation, evaluate
from difference_feedback.policy.wrong_answers import WrongAnswers
from difference_feedback.repair.embedded import embedded_repairer
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.repair.prompts import other_system, template_for
from difference_feedback.runs.check import check
from difference_feedback.runs.folder import Run
from difference_feedback.runs.model_folder import adapter_base
from difference_feedback.runs.recipes import EMBEDDED_REPAIRERS, TrainRecipe
from difference_feedback.runs.rewards import rewards_of, threshold_of
from difference_feedback.runs.servers import endpoints_of
from difference_feedback.runs.serving import with_servers
from difference_feedback.runs.terminal import Terminal
from difference_feedback.trl import DFGRPOConfig, DFGRPOTrainer, MetricsToJsonl, StopAtBudget
from difference_feedback.trl.callbacks import ShowProgress, StopWhenDiverged, check_gpu_budget
from difference_feedback.trl.objective import with_objective
from difference_feedback.trl.peers import GRPO_TRAINERS, PRIMEConfig
from difference_feedback.trl.precision import load_to_train, machine_settings
from difference_feedback.trl.trainer_config import check_first_batch, refused_settings, trainer_config
from difference_feedback.world.oracle import Flaws


@with_servers
def train(
    recipe: TrainRecipe, run: Run, *, already_spent: float = 0.0, watchers: Sequence[Watcher] = ()
) -> dict[str, Any]:
    """Train the policy of `recipe` in the folder of `run`, from its last checkpoint where it has one.

    `already_spent` CPU seconds (the repair model's training) count for the method before its first step and
    against `recipe.budget_cpu_seconds`; `cpu_seconds` in metrics.jsonl and in the summary include them.
    `watchers` observe the training; their time does not count.
    Writes metrics.jsonl, checkpoints/, model/ and summary.json, and returns the summary.

    Raises `ConfigError` for a recipe that cannot work, and for one of another host.
    """
    if recipe.host != "trl":
        raise ConfigError(
            f"host: {recipe.host}: this function trains on TRL: set host: trl, or call verl.launch.launch."
        )
    check(recipe)
    config = host_config(recipe, run.checkpoints)
    refuse_other_tokens(recipe)
    say_idle_devices()
    bill_servers(endpoints_of(recipe).values())
    dataset, grader = training_data(recipe)
    check_first_batch(len(dataset), config, "questions to train on")
    questions, grade = held_out(recipe)
    model, processor = load_to_train(recipe)
    budget = StopAtBudget(recipe.budget_cpu_seconds, already_spent, gpu_seconds=recipe.budget_gpu_seconds)
    shown = [MetricsToJsonl(run.metrics_path), ShowProgress(recipe.method)]
    common: dict[str, Any] = {
        "model": model,
        "reward_funcs": reward_functions(grader),
        "args": config,
        "train_dataset": dataset,
        "processing_class": processor,
        "callbacks": [budget, StopWhenDiverged(), *watchers, *shown],
    }
    trainer: Any
    if recipe.method == "df-grpo":
        repairer = load_repairer(recipe, config, model, processor)
        if isinstance(repairer, LocalRepairer) and (
            warning := other_system(recipe.repair_model or "", dataset[0]["prompt"])
        ):
            Terminal(stderr=True, soft_wrap=True, quiet=not ranks().is_main_process).print(warning, markup=False)
        with refused_settings():
            trainer = DFGRPOTrainer(**common, repairer=repairer)
    else:
        with refused_settings():
            trainer = GRPO_TRAINERS[recipe.method][1](**common)
    trainer.remove_callback(PrinterCallback)
    for watcher in watchers:
        watcher.trainer, watcher.budget = trainer, budget
    if recipe.keep_wrong_answers and trainer.is_world_process_zero():
        rewards, limit = rewards_of(recipe), recipe.keep_wrong_answers
        rule = " + ".join(rewards)
        trainer.watch = WrongAnswers(run.folder, limit, list(rewards.values()), threshold_of(recipe), rule)
    measured = None
    if questions:
        settings = recipe.evaluation
        part = part_of(questions, settings.curve_problems, settings.seed)

        def measure(final: bool) -> Evaluation:
            policy = trainer.accelerator.unwrap_model(trainer.model)
            held_out_part = questions if final else part
            return evaluate(policy, processor, held_out_part, grade=grade, seed=settings.seed, **settings.generation)

        measured = EvaluateHeldOut(measure, settings.every, run, budget, partly=len(part) < len(questions))
        trainer.add_callback(measured)
    checkpoint = run.last_checkpoint()
    if trainer.is_world_process_zero():
        run.rewind_to(checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_model(str(run.model_path))
    final = measured.measure(trainer.state, final=True) if measured else None
    summary = summarise(recipe, run, trainer, budget, already_spent, final)
    if trainer.is_world_process_zero():
        name_base(run.model_path, recipe.model)
        if final:
            final.write_predictions(run.folder / "predictions.jsonl")
        run.finish(summary)
    return summary


def host_config(recipe: TrainRecipe, output_dir: Path = Path("checkpoints")) -> Any:
    """TRL's configuration: the recipe's `trl:` with what the run decides, checked field by field.

    Raises `ConfigError` for a key or a value that the configuration does not accept. Nothing is written.
    """
    check_gpu_budget(recipe.budget_gpu_seconds)
    check_targets(recipe.model, recipe.lora)
    defaults: dict[str, Any] = {"logging_steps": 1, "disable_tqdm": True}
    defaults |= {"run_name": output_dir.absolute().parent.name} | machine_settings(recipe)
    fixed: dict[str, Any] = {"output_dir": str(output_dir), "seed": recipe.seed}
    trl = recipe.trl | {"report_to": recipe.trackers or "none"}
    if isinstance(recipe.reward, dict):
        fixed["reward_weights"] = list(rewards_of(recipe).values())
    if recipe.method == "df-grpo":
        fixed["objective"] = recipe.objective
        settings = defaults | trl | {"reward_threshold": threshold_of(recipe)}
        config: Any = trainer_config(DFGRPOConfig, settings, **fixed)
        _refuse_equal_repairs(recipe, config)
    else:
        kind = GRPO_TRAINERS[recipe.method][0]
        threshold = {"reward_threshold": threshold_of(recipe)} if issubclass(kind, PRIMEConfig) else {}
        config = trainer_config(kind, defaults | with_objective(recipe.objective, trl) | threshold, **fixed)
    if recipe.data is None:
        check_first_batch(recipe.problems, config, "problems", "problems")
    elif recipe.data.limit is not None:
        check_first_batch(recipe.data.limit, config, "rows", "data.limit")
    return config


def _refuse_equal_repairs(recipe: TrainRecipe, config: DFGRPOConfig) -> None:
    samples = config.passes_per_answer if config.needs_repairer else 0
    if recipe.repairs.temperature == 0 and samples > 1 and recipe.repair_model not in EMBEDDED_REPAIRERS:
        raise ConfigError(
            f"repairs.temperature is 0, so all {samples} repairs of trl.num_repairs would be equal: use a temperature "
            "above 0, or trl.num_repairs=1."
        )


def refuse_other_tokens(recipe: TrainRecipe) -> None:
    """Raise `ConfigError` for a repair model that scores the policy's answers and has other tokens.

    Only processors are loaded for this. The recipe has passed `check`.
    """
    if not recipe.scores_drafts or recipe.repair_model == "policy":
        return
    policy, repair = (load_processor(str(name)).tokenizer for name in (recipe.model, recipe.repair_model))
    if (token := other_token(policy, repair)) is not None:
        raise ConfigError(
            f"repair_model: {recipe.repair_model} does not have {token!r} where {recipe.model} has it, and "
            f"trl.weights: {recipe.trl['weights']} scores answers token by token: name a repair model with the "
            "policy's tokenizer, or use trl.weights: mask."
        )


def load_repairer(recipe: TrainRecipe, config: DFGRPOConfig, policy: Any, processor: Any) -> Any:
    """The repair model; None where the configuration needs none. The recipe has passed `check`.

    An adapter on the base of a policy that trains one, too, is loaded onto that base; `policy` then has both.
    `processor` is the policy's, onto whose tokens the texts of an endpoint are projected.
    """
    if not config.needs_repairer:
        return None
    source = recipe.repairs
    if source.via != "local":
        from difference_feedback.repair.endpoint import served_repairer

        assert source.endpoint is not None
        sampling: dict[str, Any] = {"temperature": source.temperature, "seed": recipe.seed}
        return served_repairer(source.via, source.endpoint, processor.tokenizer, source.style, **sampling)
    assert recipe.repair_model is not None
    if recipe.repair_model in EMBEDDED_REPAIRERS:
        problems = [] if recipe.data else training_problems(recipe)
        flaws = Flaws(source.oracle_right, source.oracle_clean, recipe.seed)
        return embedded_repairer(recipe.repair_model, processor.tokenizer, problems, flaws)
    settings: dict[str, Any] = {
        "temperature": source.temperature,
        "batch_size": source.batch_size,
        "speculate": source.speculate,
        "style": source.style or template_for(recipe.model if recipe.repair_model == "policy" else recipe.repair_model),
        "seed": recipe.seed,
    }
    if recipe.lora and adapter_base(recipe.repair_model) == recipe.model:
        add_repair_adapter(policy, recipe.repair_model)
        return LocalRepairer(policy, processor, adapter_name="repair", **settings)
    if recipe.repair_model == "policy":
        return LocalRepairer(policy, processor, **settings)
    return LocalRepairer.from_pretrained(recipe.repair_model, attention=recipe.attention, **settings)


def summarise(
    recipe: TrainRecipe, run: Run, trainer: Any, budget: StopAtBudget, already_spent: float, final: Evaluation | None
) -> dict[str, Any]:
    """What summary.json holds, by the schema of `report.data`."""
    summary: dict[str, Any] = {
        "method": recipe.method,
        "steps": trainer.state.global_step,
        **budget.seconds,
        "setup_cpu_seconds": already_spent,
    }
    if final:
        summary |= final.summary()
        start = next((row for row in run.metrics() if row.get("step") == 0 and "accuracy" in row), None)
        summary["base_accuracy"] = start["accuracy"] if start else None
    cost = ledger(trainer.state.log_history).terms(getattr(trainer.args, "passes_per_answer", 0))
    return summary | ({"cost": {clock: terms.to_dict() for clock, terms in cost.items()}} if cost else {})
