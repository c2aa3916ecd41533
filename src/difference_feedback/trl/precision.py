"""`dtype` of a model that is trained is the precision of its computation, not of its weights.

bfloat16 keeps 8 significant bits: an update below 1/512 of a weight is rounded away. At a rate of 1e-6 that is nearly
every update. So the weights that are trained stay in float32, and autocast computes in `dtype`; TRL switches it on by
`bf16` or `fp16`. Two cases keep the whole model in `dtype`: a LoRA adapter, whose own weights are float32, and
DeepSpeed, which has a float32 copy of all weights beside its optimiser. Models that are not trained are in `dtype`.
"""

import os
from types import MethodType
from typing import Any

import torch
from accelerate import PartialState
from torch import nn
from transformers.integrations import is_deepspeed_zero3_enabled

from difference_feedback.errors import ConfigError
from difference_feedback.models.adapters import in_one_type, with_lora
from difference_feedback.models.load import load_model
from difference_feedback.runs.model_folder import adapter_base
from difference_feedback.runs.recipes import RepairRLRecipe, RepairSFTRecipe, TrainRecipe

Trained = TrainRecipe | RepairSFTRecipe | RepairRLRecipe
LOW = ("bfloat16", "float16")


def machine_settings(recipe: Trained) -> dict[str, Any]:
    """TRL's settings of device and precision for this machine, under those that a recipe sets itself."""
    values: dict[str, Any] = {}
    if not torch.cuda.is_available():
        values = {"use_cpu": True, "bf16": False}
    if recipe.dtype == "auto":  # TRL's own choice
        return values
    return values | {"bf16": recipe.dtype == "bfloat16", "fp16": recipe.dtype == "float16"}


def load_to_train(recipe: Trained, whole: bool = False) -> tuple[Any, Any]:
    """The model of a recipe with weights that small updates change, its adapter where it has one, and its processor.

    `whole` is that of `load_model`.
    """
    adapter = recipe.lora is not None or adapter_base(recipe.model) is not None
    master = not (adapter or _deepspeed(recipe))
    dtype = "float32" if master else recipe.dtype
    model, processor = load_model(recipe.model, dtype=dtype, attention=recipe.attention, whole=whole)
    if master and recipe.dtype in LOW:
        _compute_in(model, getattr(torch, recipe.dtype))
    model = with_lora(model, recipe.lora, recipe.seed)
    if adapter and is_deepspeed_zero3_enabled():
        # It has float32 copies of all weights, and cannot take layers of two types (DeepSpeed's issue 8072).
        in_one_type(model)
    return model, processor


def _deepspeed(recipe: Trained) -> bool:
    return bool(recipe.trl.get("deepspeed")) or os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"


def _compute_in(model: Any, dtype: torch.dtype) -> None:
    """The forward pass under autocast, as a trainer makes it later: drafts are written and measured before that."""
    autocast = torch.autocast(PartialState().device.type, dtype)
    model.forward = MethodType(autocast(type(model).forward), model)


def refuse_low_precision(model: nn.Module, keeps_master: bool) -> None:
    """Raise `ConfigError` where small updates would be rounded away.

    `keeps_master`: DeepSpeed keeps float32 copies of the weights, and accelerate makes those that FSDP shards float32.
    """
    low = {str(p.dtype) for p in model.parameters() if p.requires_grad and p.dtype in (torch.bfloat16, torch.float16)}
    if low and not keeps_master:
        raise ConfigError(
            f"model: the weights to train are {', '.join(sorted(low))}, in which small updates are rounded away (at a "
            "rate of 1e-6, nearly all of them): load the model in float32 and compute in bf16 (bf16=True), train a "
            "LoRA adapter, or use DeepSpeed or FSDP, which keep float32 weights."
        )


def compute_dtype(trainer: Any) -> torch.dtype:
    """The data type in which a trainer's forward pass computes: that of autocast, or of the weights."""
    mixed = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return mixed.get(trainer.accelerator.mixed_precision, next(trainer.model.parameters()).dtype)
