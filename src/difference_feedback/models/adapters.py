"""LoRA adapters: train one in place of all weights, load one from its folder, or put two on one base.

A repair model that is an adapter on the policy's base costs no second copy of it: `repair.local.LocalRepairer` switches
to its adapter for the repair alone. PEFT comes with the extra `peft`.
"""

import json
from pathlib import Path
from typing import Any

import torch

from difference_feedback.errors import ConfigError
from difference_feedback.runs.jsonl import write_atomically
from difference_feedback.runs.model_folder import CONFIG, adapter_base
from difference_feedback.runs.sections import Lora


def with_lora(model: Any, settings: Lora | None, seed: int) -> Any:
    """`model` with a new adapter to train, which changes nothing yet; `model` itself without settings.

    `seed` is of the adapter's random half. Raises `ConfigError` for a model that is an adapter already, and for targets
    that it has not.
    """
    if settings is None:
        return model
    peft = _peft()
    if isinstance(model, peft.PeftModel):
        raise ConfigError("lora: the model is an adapter already, which is trained as it is: leave lora out.")
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.targets,
    )
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return peft.get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(f"lora.targets: {error}") from error


def load_adapter(base: Any, path: str | Path) -> Any:
    """`base` with the adapter of a folder, which a trainer would train further."""
    model = _peft().PeftModel.from_pretrained(base, Path(path).expanduser(), is_trainable=True)
    model.peft_config["default"].base_model_name_or_path = base.name_or_path  # PEFT would look a name up on the hub
    return model


def name_base(folder: Path, model: str) -> None:
    """Have the adapter saved in `folder`, if it is one, name its base as the recipe that trained `model` did.

    PEFT names the folder from which the base was loaded, which on another machine is another one.
    """
    path = folder / CONFIG
    if path.is_file():
        values = json.loads(path.read_text(encoding="utf-8"))
        values["base_model_name_or_path"] = adapter_base(model) or model
        write_atomically(path, json.dumps(values, indent=2))


def add_repair_adapter(policy: Any, path: str | Path, name: str = "repair") -> None:
    """Load an adapter beside the one that is trained, to be switched to; it is not trained itself."""
    policy.load_adapter(Path(path).expanduser(), adapter_name=name, is_trainable=False)
    policy.peft_config[name].base_model_name_or_path = policy.peft_config["default"].base_model_name_or_path


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ConfigError("adapters need PEFT: pip install 'difference-feedback[peft]'") from error
    return peft
