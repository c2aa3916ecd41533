"""LoRA adapters: train one instead of all parameters, load one from its folder, or put two on one base.

A repair model that is an adapter on the policy's base needs no second copy of the base: `repair.local.LocalRepairer`
switches to the repair adapter while it repairs. PEFT comes with the extra `peft`.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from difference_feedback.errors import ConfigError
from difference_feedback.models.processor import load_config
from difference_feedback.runs.model_folder import CONFIG, adapter_base, is_local
from difference_feedback.runs.outputs import write_atomically
from difference_feedback.runs.packages import require
from difference_feedback.runs.sections import Lora
from difference_feedback.runs.validation import nearest


def with_lora(model: Any, settings: Lora | None, seed: int) -> Any:
    """`model` with a new adapter to train; without settings, `model` itself. A new adapter changes no output yet.

    `seed` sets the adapter's random initial parameters. Raises `ConfigError` when the model already is an adapter, or
    when it has no modules named in the settings' targets.
    """
    if settings is None:
        return model
    peft = _peft()
    if isinstance(model, peft.PeftModel):
        raise ConfigError("lora: the model already is an adapter, which is trained further: leave lora out.")
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.targets or language_layers(model),
    )
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return peft.get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(
            f"lora.targets: PEFT cannot add the adapter ({error}): name modules of this model."
        ) from error


def check_targets(model: str, settings: Lora | None) -> None:
    """Raise `ConfigError` for targets that the model does not have, by its configuration alone: no weights are loaded.

    Only a model on this machine is looked at; another one is checked when it is loaded.
    """
    if settings is None or settings.targets is None or (model != "nano" and not is_local(model)):
        return
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        skeleton = AutoModelForImageTextToText.from_config(load_config(model), trust_remote_code=False)
    names = [name for name, _ in skeleton.named_modules()]
    if isinstance(settings.targets, list):
        for target in settings.targets:
            if not any(name == target or name.endswith(f".{target}") for name in names):
                kinds = {
                    name.rpartition(".")[2] for name, part in skeleton.named_modules() if isinstance(part, nn.Linear)
                }
                raise ConfigError(f"lora.targets: the model has no module {target!r}.{nearest(target, kinds)}")
    with_lora(skeleton, settings, seed=0)


def in_one_type(model: Any) -> None:
    """Put an adapter, which PEFT keeps in float32, into the data type of its base."""
    base = next(parameter.dtype for parameter in model.parameters() if not parameter.requires_grad)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(base)


def language_layers(model: Any) -> str:
    """The linear layers of a vision-language model's language model, as a regular expression of their whole names.

    The model itself says which of its parts that is (`get_decoder`), whatever the name. Raises `ConfigError` where it
    does not say.
    """
    decoder = model.get_decoder()
    place = next(name for name, module in model.named_modules() if module is decoder)
    kinds = {name.rpartition(".")[2] for name, module in decoder.named_modules() if isinstance(module, nn.Linear)}
    if not place or not kinds:
        raise ConfigError(
            f"lora.targets: {type(model).__name__} does not say which layers are its language model's: name them, as "
            "PEFT's target_modules."
        )
    return rf"{re.escape(place)}\..*\.({'|'.join(sorted(kinds))})"


def load_adapter(base: Any, path: str | Path) -> Any:
    """`base` with the adapter of a folder, ready to be trained further."""
    model = _peft().PeftModel.from_pretrained(base, Path(path).expanduser(), is_trainable=True)
    model.peft_config["default"].base_model_name_or_path = base.name_or_path  # PEFT would look a name up on the hub
    return model


def name_base(folder: Path, model: str) -> None:
    """If `folder` holds an adapter, write its base into its configuration under the name that the recipe gave to it.

    PEFT writes the local folder from which the base was loaded; on another machine that folder may not exist.
    """
    path = folder / CONFIG
    if path.is_file():
        values = json.loads(path.read_text(encoding="utf-8"))
        values["base_model_name_or_path"] = adapter_base(model) or model
        write_atomically(path, json.dumps(values, indent=2))


def add_repair_adapter(policy: Any, path: str | Path) -> None:
    """Load a second adapter beside the trained one, under the name `repair`. It is not trained."""
    policy.load_adapter(Path(path).expanduser(), adapter_name="repair", is_trainable=False)
    policy.peft_config["repair"].base_model_name_or_path = policy.peft_config["default"].base_model_name_or_path


def _peft() -> Any:
    require("peft", "lora")
    import peft

    return peft
