"""Find what the host of a training refuses: its objectives, its trackers, its packages, and settings that it lacks."""

from collections.abc import Collection

from difference_feedback.errors import ConfigError
from difference_feedback.runs.hub import check_hub
from difference_feedback.runs.model_folder import adapter_base
from difference_feedback.runs.packages import TRACKERS, VERL_TRACKERS, is_installed
from difference_feedback.runs.recipes import EMBEDDED_REPAIRERS, RepairRLRecipe, RepairSFTRecipe, TrainRecipe
from difference_feedback.runs.rewards import JUDGE, rewards_of
from difference_feedback.runs.validation import nearest

HOST_OBJECTIVES = {
    "trl": ("grpo", "gspo", "dapo", "dr_grpo", "sapo", "cispo"),
    "verl": ("grpo", "gspo", "dapo", "dr_grpo", "ppo"),
}
"""The objectives that each host computes; on verl, those whose weights were verified."""
PEERS = ("ar-grpo", "prime")
"""Methods to compare with, which have an advantage for every token; see `trl.peers`."""


def check_host(recipe: TrainRecipe) -> None:
    """Raise `ConfigError` for what the recipe's host does not have."""
    if recipe.verl and recipe.host != "verl":
        raise ConfigError("verl holds that host's settings, and host is trl: set host: verl, or leave them out.")
    if recipe.objective not in HOST_OBJECTIVES[recipe.host]:
        others = [host for host, names in HOST_OBJECTIVES.items() if recipe.objective in names]
        raise ConfigError(
            f"objective: {recipe.objective} does not run on host: {recipe.host}, which has "
            f"{', '.join(HOST_OBJECTIVES[recipe.host])}: choose one of them, or host: {others[0]}."
        )
    if recipe.method in PEERS and recipe.objective == "gspo":
        raise ConfigError(
            f"objective: gspo has one ratio for an answer, and method {recipe.method} an advantage for every token: "
            "use objective: grpo, or another with a ratio for every token."
        )
    if recipe.method == "prime" and (recipe.lora is not None or adapter_base(recipe.model) is not None):
        raise ConfigError(
            "method: prime trains a process reward model, a copy of the whole policy: leave lora out, and give a model "
            "that is no adapter."
        )
    if recipe.host == "trl":
        for key in ("placement", "replicas"):
            if getattr(recipe.repairs, key) is not None:
                raise ConfigError(f"repairs.{key} is for host: verl alone: leave it out, or set host: verl.")
        return
    ignored = {
        f"method: {recipe.method}": recipe.method in PEERS,
        "reward: llm-judge": JUDGE in rewards_of(recipe),
        "judge": recipe.judge is not None,
        "budget_cpu_seconds": recipe.budget_cpu_seconds is not None,
        "budget_gpu_seconds": recipe.budget_gpu_seconds is not None,
        "keep_wrong_answers": recipe.keep_wrong_answers > 0,
        "push_to_hub": recipe.push_to_hub is not None,
        f"repair_model: {recipe.repair_model}": recipe.repair_model in (*EMBEDDED_REPAIRERS, "policy"),
        f"trl.weights: {recipe.trl.get('weights')}": recipe.scores_drafts,
    }
    for key in (key for key, is_set in ignored.items() if is_set):
        raise ConfigError(f"{key} has no counterpart on host: verl: leave it out, or use host: trl.")
    for key in ("save_steps", "warmup_steps"):
        if isinstance(value := recipe.trl.get(key), float) and not value.is_integer():
            raise ConfigError(f"trl.{key}: {value} is no whole number of steps, which verl needs: give one.")
    if recipe.trl.get("max_steps") == -1:
        raise ConfigError("trl.max_steps: -1 is TRL's: leave it out, and give verl.trainer.total_epochs.")
    if recipe.trl.get("max_grad_norm") == 0:
        raise ConfigError("trl.max_grad_norm: 0 would make every gradient 0 on verl: leave it out, or give a norm.")
    if recipe.lora is not None:
        raise ConfigError("lora is TRL's: on verl set verl.actor_rollout_ref.model.lora_rank, or use host: trl.")
    if recipe.max_prompt_length and "data.max_prompt_length" in recipe.verl_settings:
        raise ConfigError("max_prompt_length and verl.data.max_prompt_length are the same: leave one of the two out.")
    if recipe.report_to and "trainer.logger" in recipe.verl_settings:
        raise ConfigError("report_to and verl.trainer.logger are the same: leave one of the two out.")
    if not is_installed("verl"):
        raise ConfigError("host: verl needs verl, in an environment of its own: docs/verl.md says how to make it.")
    check_trackers(recipe, VERL_TRACKERS)


def check_published(recipe: TrainRecipe | RepairSFTRecipe | RepairRLRecipe) -> None:
    """Raise `ConfigError` for trackers that are named twice, and for a place on the hub that cannot be used."""
    if recipe.report_to is not None and recipe.trl.get("report_to") is not None:
        raise ConfigError("report_to and trl.report_to are the same: leave one of the two out.")
    if recipe.push_to_hub is not None:
        check_hub(recipe.push_to_hub)


def check_trackers(recipe: TrainRecipe | RepairSFTRecipe | RepairRLRecipe, known: Collection[str]) -> None:
    """Raise `ConfigError` for trackers that are not among the `known` ones of the host, or not installed."""
    key = "trl.report_to" if recipe.report_to is None else "report_to"
    for name in recipe.trackers:
        if name in ("none", "all") and len(recipe.trackers) == 1:
            continue
        if name not in known:
            raise ConfigError(f"{key}: {name!r} is no tracker.{nearest(str(name), known)}")
        if not is_installed(TRACKERS[name]):
            raise ConfigError(
                f"{key}: {name} is not installed: pip install {name}, or set {key}=none; "
                "metrics.jsonl is written in any case."
            )
