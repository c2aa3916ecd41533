"""Run a `train` recipe: the policy by GRPO or DF-GRPO, with budget, evaluation, checkpoints and resume."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers import PrinterCallback

from difference_feedback.data.question import Question
from difference_feedback.errors import ConfigError
from difference_feedback.method.cost import ledger
from difference_feedback.models.adapters import adapter_base, add_repair_adapter, name_base, with_lora
from difference_feedback.models.load import load_model
from difference_feedback.policy.callbacks import EvaluateHeldOut, SeedRepairs, Watcher
from difference_feedback.policy.evaluation import Evaluation, Grade, evaluate, held_out, judge_of
from difference_feedback.policy.wrong_answers import WrongAnswers
from difference_feedback.repair.embedded import EMBEDDED_REPAIRERS, embedded_repairer
from difference_feedback.runs.folder import Run
from difference_feedback.runs.recipes import TrainRecipe
from difference_feedback.runs.settings import build_config
from difference_feedback.trl import DFGRPOConfig, DFGRPOTrainer, ExactResume, MetricsToJsonl, StopAtBudget
from difference_feedback.trl.callbacks import ShowProgress
from difference_feedback.trl.objective import with_objective
from difference_feedback.world import sample_problems

if TYPE_CHECKING:
    from difference_feedback.judges.llm_judge import LLMJudge

RewardFunction = Callable[..., Sequence[float | None]]


def train(
    recipe: TrainRecipe, run: Run, *, already_spent: float = 0.0, watchers: Sequence[Watcher] = ()
) -> dict[str, Any]:
    """Train the policy of `recipe` in the folder of `run`, from its last checkpoint where it has one.

    `already_spent` CPU seconds are billed to the method before its first step (the repair model's training) and count
    against `recipe.budget_cpu_seconds`; `cpu_seconds` in metrics.jsonl and in the summary's `cpu_seconds` include them.
    `watchers` look on, off the bill.
    Writes metrics.jsonl, checkpoints/, model/ and summary.json, and returns the summary.
    """
    check(recipe)
    config = host_config(recipe, run)
    dataset, reward = training_data(recipe)
    questions, grade = evaluation_questions(recipe)
    model, processor = load_model(recipe.model, dtype=recipe.dtype, attention=recipe.attention)
    model = with_lora(model, recipe.lora, recipe.seed)
    budget = StopAtBudget(recipe.budget_cpu_seconds, already_spent)
    common: dict[str, Any] = {
        "model": model,
        "reward_funcs": [reward],
        "args": config,
        "train_dataset": dataset,
        "processing_class": processor,
        "callbacks": [budget, *watchers, MetricsToJsonl(run.metrics_path), ShowProgress(recipe.method)],
    }
    trainer: Any
    if recipe.method == "df-grpo":
        repairer = load_repairer(recipe, config, model, processor)
        trainer = DFGRPOTrainer(**common, repairer=repairer)
        if repairer is not None:
            trainer.add_callback(SeedRepairs(repairer))
    else:
        trainer = ExactResume(**common)
    trainer.remove_callback(PrinterCallback)
    for watcher in watchers:
        watcher.trainer, watcher.budget = trainer, budget
    if recipe.keep_wrong_answers and trainer.is_world_process_zero():
        trainer.watch = WrongAnswers(run.folder, recipe.keep_wrong_answers)
    measured = None
    if questions:
        part = recipe.evaluation.curve_problems
        measured = EvaluateHeldOut(
            lambda final: _evaluate(recipe, trainer, processor, questions if final else questions[:part], grade),
            *(recipe.evaluation.every, run, budget, part is not None),
        )
        trainer.add_callback(measured)
    checkpoint = run.last_checkpoint()
    run.rewind(int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else -1)
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


def check(recipe: TrainRecipe) -> None:
    """Raise `ConfigError` for combinations that cannot work, before anything is loaded."""
    if recipe.method == "grpo" and recipe.repair_model:
        raise ConfigError("repair_model is set, and GRPO repairs nothing: use method: df-grpo, or leave it out.")
    if recipe.verl:
        raise ConfigError("verl holds that host's settings, and host is trl: set host: verl, or leave them out.")
    if recipe.repairs.endpoint is not None and recipe.repairs.via == "local":
        raise ConfigError("repairs.endpoint names a server, and via: local asks none: set via to endpoint or vllm.")
    if recipe.data and recipe.tasks:
        raise ConfigError("tasks names embedded tasks, and data replaces them: leave one of the two out.")
    if (recipe.judge is not None) != (recipe.reward == "llm-judge"):
        raise ConfigError("judge and reward: llm-judge go together: give both, or neither.")
    if recipe.reward == "embedded" and recipe.data:
        raise ConfigError("reward: embedded grades the embedded tasks alone; with data use final-answer.")


def host_config(recipe: TrainRecipe, run: Run) -> Any:
    """TRL's configuration: the recipe's `trl:` with what the run decides, checked field by field."""
    from trl import GRPOConfig

    defaults: dict[str, Any] = {"logging_steps": 1, "report_to": "none", "disable_tqdm": True}
    if not torch.cuda.is_available():
        defaults |= {"bf16": False, "use_cpu": True}
    fixed = {"output_dir": str(run.checkpoints), "seed": recipe.seed}
    if recipe.method == "df-grpo":
        fixed["objective"] = recipe.objective
        return build_config(DFGRPOConfig, defaults | recipe.trl, source="trl", **fixed)
    settings = defaults | with_objective(recipe.objective, recipe.trl)
    return build_config(GRPOConfig, settings, source="trl", **fixed)


def training_data(recipe: TrainRecipe) -> tuple[Dataset, RewardFunction]:
    """The rows to train on and the rule that grades answers to them."""
    from difference_feedback.judges.rules import final_answer_reward

    if recipe.data:
        from difference_feedback.data.dataset import load_data

        dataset, reward = load_data(recipe.data).for_training(), final_answer_reward
    else:
        from difference_feedback.world import correctness_reward, to_dataset

        dataset = to_dataset(sample_problems("rl", recipe.problems, recipe.seed, recipe.tasks))
        reward = final_answer_reward if recipe.reward == "final-answer" else correctness_reward
    return dataset, judge_of(recipe.judge).reward if recipe.reward == "llm-judge" else reward


def evaluation_questions(recipe: TrainRecipe) -> tuple[Sequence[Question], "Grade | LLMJudge"]:
    """Held-out questions: embedded ones, the recipe's `test_data`, or none for real data without a test set."""
    if recipe.data and not recipe.test_data:
        return [], lambda question, response: False
    return held_out(recipe.evaluation, recipe.test_data, recipe.tasks, recipe.reward, recipe.judge)


def load_repairer(recipe: TrainRecipe, config: DFGRPOConfig, policy: Any, processor: Any) -> Any:
    """The repair model; None where the configuration needs none. Raises `ConfigError` when it is missing.

    An adapter on the base of a policy that trains one, too, is loaded onto that base; `policy` then has both.
    `processor` is the policy's, onto whose tokens the texts of an endpoint are projected.
    """
    if not config.needs_repairer:
        return None
    asked = recipe.repairs
    if asked.via != "local":
        if asked.endpoint is None:
            raise ConfigError(f"repairs.via: {asked.via} needs repairs.endpoint, the url and model of the server.")
        if recipe.repair_model is not None:
            raise ConfigError(f"repair_model is a model for this process, and repairs.via: {asked.via} asks a server.")
        from difference_feedback.repair.endpoint import EndpointRepairer, VLLMServerRepairer

        kind = VLLMServerRepairer if asked.via == "vllm" else EndpointRepairer
        style = asked.style or "full"
        return kind(asked.endpoint, processor.tokenizer, style=style, temperature=asked.temperature, seed=recipe.seed)
    if recipe.repair_model is None:
        raise ConfigError(
            "method df-grpo needs repair_model, the folder or hub name of a repair model: train one with "
            "`difference-feedback repair sft` and `repair rl`, name a server in repairs.endpoint, or give method=grpo."
        )
    if recipe.repair_model in EMBEDDED_REPAIRERS:
        problems = None if recipe.data else sample_problems("rl", recipe.problems, recipe.seed, recipe.tasks)
        return embedded_repairer(recipe.repair_model, processor.tokenizer, problems)
    from difference_feedback.repair.local import LocalRepairer
    from difference_feedback.repair.prompts import template_for

    settings: dict[str, Any] = {
        "max_new_tokens": config.max_completion_length,
        "temperature": asked.temperature,
        "batch_size": asked.batch_size,
        "style": asked.style or template_for(recipe.model if recipe.repair_model == "policy" else recipe.repair_model),
        "seed": recipe.seed,
    }
    if recipe.lora and adapter_base(recipe.repair_model) == recipe.model:
        add_repair_adapter(policy, recipe.repair_model)
        return LocalRepairer(policy, processor, adapter_name="repair", **settings)
    if recipe.repair_model == "policy":
        return LocalRepairer(policy, processor, **settings)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options: dict[str, Any] = {"device": device, "dtype": recipe.dtype, "attention": recipe.attention}
    return LocalRepairer.from_pretrained(recipe.repair_model, **options, **settings)


def summarise(
    recipe: TrainRecipe, run: Run, trainer: Any, budget: StopAtBudget, already_spent: float, final: Evaluation | None
) -> dict[str, Any]:
    """What summary.json holds, by the schema of `report.data`."""
    summary: dict[str, Any] = {
        "method": recipe.method,
        "steps": trainer.state.global_step,
        "cpu_seconds": budget.total,
        "setup_cpu_seconds": already_spent,
    }
    if final:
        summary |= final.summary()
        start = next((row for row in run.metrics() if row.get("step") == 0 and "accuracy" in row), None)
        summary["base_accuracy"] = start["accuracy"] if start else None
    cost = ledger(trainer.state.log_history).terms(getattr(trainer.args, "num_repairs", 0))
    return summary | ({"cost": {clock: terms.to_dict() for clock, terms in cost.items()}} if cost else {})


def _evaluate(
    recipe: TrainRecipe,
    trainer: Any,
    processor: Any,
    questions: Sequence[Question],
    grade: "Grade | LLMJudge",
) -> Evaluation:
    settings = recipe.evaluation
    return evaluate(
        trainer.accelerator.unwrap_model(trainer.model),
        processor,
        questions,
        grade=grade,
        seed=settings.seed,
        **settings.generation,
    )
