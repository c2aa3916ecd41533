"""The `difference_feedback:` block of a verl configuration, checked before anything starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from difference_feedback.errors import ConfigError
from difference_feedback.method.groups import CorrectRollouts, EmptyFeasible
from difference_feedback.method.settings import MaskSettings
from difference_feedback.runs.renamed import rename
from difference_feedback.runs.validation import build_config

ReferenceSource = Literal["sibling_then_answer", "sibling", "answer"]
Via = Literal["local", "endpoint", "vllm"]


@dataclass(kw_only=True)
class Settings(MaskSettings):
    """How wrong answers are repaired and the update weighted. Fields are those of the TRL host where both have them."""

    reward_threshold: float = 1.0
    """tau: an answer, or a repair, is right from this reward on."""
    num_repairs: int = 2
    """K: repairs sampled per wrong answer."""
    reference: ReferenceSource = "sibling_then_answer"
    """A right answer drawn uniformly from the group, the ground truth, or the first and else the second."""
    reference_seed: int = 0
    empty_feasible: EmptyFeasible = "drop"
    """A wrong answer without a right repair leaves the update, or stays with weights of one."""
    correct_rollouts: CorrectRollouts = "leave"
    """Right answers leave the group, as in the paper, or stay in it with weights of one. With a critic they stay."""
    weights: Literal["mask", "ones"] = "mask"
    """`ones` switches the gate off: the control with the same repairs."""

    repair_model: str | None = None
    """Folder or hub name of the repair model, which a Ray actor of its own holds."""
    style: Literal["nano", "full"] | None = None
    """Prompt of the repair model; by default that of its training."""
    temperature: float = 0.7
    batch_size: int = 64
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: str | None = None
    num_gpus: float = 0.0
    """GPUs of the repair model's actor. 0: it runs on the CPU."""
    num_cpus: float = 1.0
    via: Via = "local"
    """`endpoint`: any chat server, `vllm`: a vLLM server of a model with the policy's tokenizer."""
    endpoint: dict[str, Any] = field(default_factory=dict)
    """The server: url, model, api_key_env, concurrency, timeout, ..."""

    dump: str | None = None
    """Folder for each step's tensors, as the update reads them: for tests and for those who study masks."""

    def __post_init__(self) -> None:
        self.check_mask()
        for name, choices in {
            "reference": get_args(ReferenceSource),
            "empty_feasible": get_args(EmptyFeasible),
            "correct_rollouts": get_args(CorrectRollouts),
            "weights": ("mask", "ones"),
            "via": get_args(Via),
        }.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(choices)}.")
        if self.num_repairs < 1:
            raise ConfigError(f"num_repairs={self.num_repairs}: at least one repair is needed per wrong answer.")
        if self.via == "local" and not self.repair_model:
            raise ConfigError("repair_model is missing: the folder or hub name of a repair model, or via=endpoint.")
        if self.via != "local" and not {"url", "model"} <= set(self.endpoint):
            raise ConfigError(f"endpoint is missing its url or model: via={self.via} asks a server for repairs.")


def settings_of(config: Mapping[str, Any]) -> Settings | None:
    """The block of a whole verl configuration; None where it is absent or `enabled: false`, which is plain verl.

    Raises:
        ConfigError: an unknown key (with the nearest one), a value of the wrong type, or what verl would compute wrong.
    """
    from omegaconf import OmegaConf

    block: Any = OmegaConf.to_container(OmegaConf.create(config.get("difference_feedback") or {}), resolve=True)
    if not block or not block.pop("enabled", True):
        return None
    block = rename("difference_feedback", block, "difference_feedback")
    settings = build_config(Settings, block, source="difference_feedback")
    refuse(config)
    return settings


def by_critic(config: Mapping[str, Any]) -> bool:
    """Whether advantages come from a critic (DF-PPO): the answers stay as they are, and no repairs are added."""
    return config["algorithm"]["adv_estimator"] == "gae"


def refuse(config: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for settings of verl's with which the gate would not be what it says."""
    algorithm, actor = config["algorithm"], config["actor_rollout_ref"]["actor"]
    loss = actor["policy_loss"].get("loss_mode", "vanilla")
    problems = {
        f"algorithm.adv_estimator={algorithm['adv_estimator']}": (
            algorithm["adv_estimator"] not in ("grpo", "gae"),
            "the gate is verified with grpo (also for GSPO, DAPO and Dr. GRPO) and gae (PPO)",
        ),
        f"actor.policy_loss.loss_mode={loss}": (
            loss not in ("vanilla", "gspo"),
            "the gate is verified with vanilla and gspo",
        ),
        "trainer.v1.trainer_mode": (
            config["trainer"]["v1"]["trainer_mode"] != "sync",
            "pairs are made by the synchronous trainer alone; use sync",
        ),
        "algorithm.use_kl_in_reward=True": (
            bool(algorithm["use_kl_in_reward"]) and not by_critic(config),
            "the KL would enter the split into right and wrong; use actor.use_kl_loss",
        ),
        "distillation.enabled=True": (
            bool((config.get("distillation") or {}).get("enabled", False)),
            "the distillation loss would not be weighted; switch it off",
        ),
        "reward.reward_model.enable=True without a resource pool": (
            bool(config["reward"]["reward_model"]["enable"])
            and not config["reward"]["reward_model"]["enable_resource_pool"],
            "rewards must be there when a prompt's answers are; set reward.reward_model.enable_resource_pool=True",
        ),
    }
    found = [f"{what}: {why}." for what, (wrong, why) in problems.items() if wrong]
    if found:
        raise ConfigError("difference_feedback: " + " ".join(found))
