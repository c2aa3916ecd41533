"""A `train` recipe as verl's configuration. A key without a counterpart on verl is an error."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from difference_feedback.errors import ConfigError
from difference_feedback.method.objectives import OBJECTIVES, Clip
from difference_feedback.runs.model_folder import whole_place
from difference_feedback.runs.recipes import TrainRecipe
from difference_feedback.runs.rewards import is_summed, own_function, rewards_of, threshold_of
from difference_feedback.runs.validation import build_config, nearest
from difference_feedback.verl.settings import VerlSettings

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
_ESTIMATOR = {
    # objective: (advantages from, loss_mode, loss_agg_mode)
    "grpo": ("grpo", "vanilla", "seq-mean-token-mean"),
    "gspo": ("grpo", "gspo", "seq-mean-token-mean"),
    "dapo": ("grpo", "vanilla", "token-mean"),
    "dr_grpo": ("grpo", "vanilla", "seq-mean-token-sum-norm"),
    "ppo": ("gae", "vanilla", "token-mean"),
}
_SAME = {
    "num_generations": f"{ROLLOUT}.n",
    "temperature": f"{ROLLOUT}.temperature",
    "top_p": f"{ROLLOUT}.top_p",
    "max_completion_length": "data.max_response_length",
    "learning_rate": f"{ACTOR}.optim.lr",
    "weight_decay": f"{ACTOR}.optim.weight_decay",
    "warmup_steps": f"{ACTOR}.optim.lr_warmup_steps",
    "max_grad_norm": f"{ACTOR}.optim.clip_grad",
    "max_steps": "trainer.total_training_steps",
    "save_steps": "trainer.save_freq",
    "num_iterations": f"{ACTOR}.ppo_epochs",
    "epsilon": f"{ACTOR}.clip_ratio_low",
    "epsilon_high": f"{ACTOR}.clip_ratio_high",
    "gradient_checkpointing": "actor_rollout_ref.model.enable_gradient_checkpointing",
    "beta": f"{ACTOR}.kl_loss_coef",
}
_SIZES = ("per_device_train_batch_size", "gradient_accumulation_steps", "generation_batch_size", "steps_per_generation")
_OTHERS = ("lr_scheduler_type", "bf16", "logging_steps", "report_to", "answer_column", "reward_weights")
_SCHEDULES = {"constant": "constant", "constant_with_warmup": "constant", "cosine": "cosine"}


_DEFAULTS = {
    # where verl has none, or one that does not fit every machine
    f"{ROLLOUT}.name": "vllm",
    f"{ROLLOUT}.tensor_model_parallel_size": 1,
    f"{ACTOR}.strategy": "fsdp2",
    f"{ACTOR}.fsdp_config.strategy": "fsdp2",
}


def gpus_here() -> int:
    """The number of this machine's GPUs that are visible."""
    import torch

    return int(torch.accelerator.device_count()) if torch.accelerator.is_available() else 0


def overrides(recipe: TrainRecipe, gpus: int = 1) -> dict[str, Any]:
    """verl's configuration, dotted key -> value, without data files and folders. `recipe.verl` overrides the rest.

    `gpus` are this machine's, which stand unless `recipe.verl` has other numbers of nodes and GPUs.

    Raises:
        ConfigError: a key without a counterpart on verl. `runs.check` has checked the objective.
    """
    df_fields = {field.name for field in fields(VerlSettings)}
    known = {*_SAME, *_SIZES, *_OTHERS, *df_fields}
    if unknown := sorted(set(recipe.trl) - known):
        raise ConfigError(
            f"trl.{unknown[0]} has no counterpart on verl.{nearest(unknown[0], known)} "
            "Leave it out, or give verl's own setting under `verl:`."
        )
    verl_settings = recipe.verl_settings
    pool = {"trainer.nnodes": 1, "trainer.n_gpus_per_node": gpus}
    try:
        ranks = math.prod(int(verl_settings.get(key, value)) for key, value in pool.items())
    except (TypeError, ValueError):
        raise ConfigError("verl.trainer.nnodes and verl.trainer.n_gpus_per_node: give whole numbers.") from None
    if not ranks:
        raise ConfigError(
            "host: verl trains on GPUs, and this machine has none: set verl.trainer.n_gpus_per_node and "
            "verl.trainer.nnodes to those of the Ray cluster."
        )
    settings = _DEFAULTS | pool | _objective(recipe) | _batches(recipe.trl, ranks) | _attention(recipe.attention)
    settings |= {_SAME[key]: value for key, value in recipe.trl.items() if key in _SAME}
    if recipe.trl.get("beta"):
        settings[f"{ACTOR}.use_kl_loss"] = True
    else:
        settings.pop(f"{ACTOR}.kl_loss_coef", None)
    if "lr_scheduler_type" in recipe.trl:
        schedule = recipe.trl["lr_scheduler_type"]
        if schedule not in _SCHEDULES:
            raise ConfigError(f"trl.lr_scheduler_type={schedule!r}: verl has {', '.join(_SCHEDULES)}; use one of them.")
        settings[f"{ACTOR}.optim.lr_scheduler_type"] = _SCHEDULES[schedule]
    if recipe.max_prompt_length is not None:
        settings["data.max_prompt_length"] = recipe.max_prompt_length
    if trackers := [name for name in recipe.trackers if name != "none"]:
        settings["trainer.logger"] = ["console", "file", *trackers]
    if is_summed(recipe):
        settings |= _rewards(recipe)
    if recipe.method == "df-grpo":
        block = _block(recipe, df_fields)
        build_config(VerlSettings, block, source="trl and repairs")
        settings |= {f"+difference_feedback.{key}": value for key, value in block.items()}
    settings |= verl_settings
    check_first_batch(settings, *_rows(recipe))
    return settings


def check_first_batch(settings: Mapping[str, Any], rows: int | None, key: str) -> None:
    """Raise `ConfigError` for fewer questions than verl's batch takes: it drops the rest, and would train nothing.

    `rows` is their number, None where it is not known yet; `key` says where it comes from.
    """
    needed = settings["data.train_batch_size"]
    if rows is not None and isinstance(needed, int) and rows < needed:
        raise ConfigError(
            f"{key}: {rows} questions, and verl's batch takes {needed} (data.train_batch_size), so nothing would be "
            f"trained: give {needed} or more, or a smaller batch by trl.generation_batch_size."
        )


def _rows(recipe: TrainRecipe) -> tuple[int | None, str]:
    """The number of questions that the recipe asks for, and the key that sets it."""
    return (recipe.problems, "problems") if recipe.data is None else (recipe.data.limit, "data.limit")


def _objective(recipe: TrainRecipe) -> dict[str, Any]:
    estimator, mode, aggregation = _ESTIMATOR[recipe.objective]
    clip = OBJECTIVES[recipe.objective].settings
    assert isinstance(clip, Clip)
    settings: dict[str, Any] = {
        "algorithm.adv_estimator": estimator,
        f"{ACTOR}.policy_loss.loss_mode": mode,
        f"{ACTOR}.loss_agg_mode": aggregation,
        f"{ACTOR}.clip_ratio_low": clip.low,
        f"{ACTOR}.clip_ratio_high": clip.high,
    }
    if recipe.objective == "dr_grpo":
        settings["algorithm.norm_adv_by_std_in_grpo"] = False
        settings[f"{ACTOR}.loss_scale_factor"] = recipe.trl.get("max_completion_length", 256)
    return settings


def _batches(trl: Mapping[str, Any], ranks: int) -> dict[str, Any]:
    """TRL's sizes on so many ranks, where verl counts prompts and TRL answers.

    A device gets `per_device_train_batch_size` answers at a time, `gradient_accumulation_steps` of them make an update,
    and a batch has one update unless `generation_batch_size` or `steps_per_generation` say otherwise.
    """
    answers, rows = trl.get("num_generations", 8), trl.get("per_device_train_batch_size", 8)
    accumulated = trl.get("gradient_accumulation_steps", 1)
    update = rows * ranks * accumulated
    batch = trl.get("generation_batch_size") or rows * ranks * trl.get("steps_per_generation", accumulated)
    for name, size in (("a batch", batch), ("an update", update)):
        if size % answers:
            raise ConfigError(
                f"trl.num_generations={answers}: {name} of {size} answers on {ranks} GPUs has no whole prompts: use a "
                "divisor, or change per_device_train_batch_size or gradient_accumulation_steps."
            )
    if batch % update:
        raise ConfigError(
            f"trl.generation_batch_size: {batch} answers are no whole number of updates of {update} "
            f"(per_device_train_batch_size x gradient_accumulation_steps x {ranks} GPUs): use a multiple of it."
        )
    at_a_time = [f"{ACTOR}.ppo_micro_batch_size_per_gpu"]
    at_a_time += [f"actor_rollout_ref.{part}.log_prob_micro_batch_size_per_gpu" for part in ("rollout", "ref")]
    sizes = {"data.train_batch_size": batch // answers, f"{ACTOR}.ppo_mini_batch_size": update // answers}
    return sizes | dict.fromkeys(at_a_time, rows)


def _attention(name: str | None) -> dict[str, Any]:
    """verl packs rows without padding, which only flash attention keeps apart."""
    if name is None:
        return {}
    model = "actor_rollout_ref.model"
    packs = name.startswith("flash_attention")
    return {f"+{model}.override_config.attn_implementation": name, f"{model}.use_remove_padding": packs}


def _rewards(recipe: TrainRecipe) -> dict[str, Any]:
    """What `reward.compute_score` gets besides each answer. verl's workers have another current folder."""
    functions = {name: own_function(name) for name in rewards_of(recipe)}
    kwargs = {
        "rewards": [
            f"{place.path.absolute()}:{place.function}" if place else name for name, place in functions.items()
        ],
        "weights": list(rewards_of(recipe).values()),
        "threshold": threshold_of(recipe),
        "model": whole_place(recipe.model),
    }
    return {f"+reward.custom_reward_function.reward_kwargs.{key}": value for key, value in kwargs.items()}


def _block(recipe: TrainRecipe, df_fields: set[str]) -> dict[str, Any]:
    block = {key: value for key, value in recipe.trl.items() if key in df_fields and key not in _SAME}
    # verl rejects the embedded world's repairers, so it has no setting for how bad the oracle is.
    block |= recipe.repairs.model_dump(mode="json", exclude_none=True, exclude={"oracle_right", "oracle_clean"})
    repair_model = recipe.repair_model and whole_place(recipe.repair_model)
    block |= {"repair_model": repair_model, "dtype": recipe.dtype, "reward_threshold": threshold_of(recipe)}
    return {key: value for key, value in block.items() if value is not None}
