"""Find values that a recipe's own fields do not limit: what stands under `trl:`, and what depends on the model."""

from difference_feedback.errors import ConfigError
from difference_feedback.runs.model_folder import context_length
from difference_feedback.runs.packages import ATTENTION, is_installed
from difference_feedback.runs.recipes import ModelRecipe, Recipe, RepairRLRecipe, RepairSFTRecipe, TrainRecipe
from difference_feedback.runs.trl_values import check_trl
from difference_feedback.runs.validation import nearest


def check_values(recipe: Recipe) -> None:
    """Raise `ConfigError` for values that no field of a recipe limits: of `trl:`, attention, lengths of answers."""
    if not isinstance(recipe, ModelRecipe):
        return
    if isinstance(recipe, TrainRecipe | RepairSFTRecipe | RepairRLRecipe):
        check_trl(recipe.trl)
    _check_attention(recipe.attention)
    lengths = {"max_new_tokens": getattr(recipe, "max_new_tokens", None)}
    if isinstance(recipe, TrainRecipe | RepairRLRecipe):
        lengths["trl.max_completion_length"] = recipe.trl.get("max_completion_length")
    if (evaluation := getattr(recipe, "evaluation", None)) is not None:
        lengths["evaluation.max_new_tokens"] = evaluation.max_new_tokens
    try:
        context = context_length(getattr(recipe, "policy", recipe.model))
    except ConfigError:  # an adapter without weights: `check_model` says so
        return
    for key, length in lengths.items():
        if context is not None and length is not None and length >= context:
            raise ConfigError(
                f"{key}: an answer of {length} tokens leaves no room for a prompt: the model has {context}. Lower it."
            )


def _check_attention(name: str | None) -> None:
    if name is None or "/" in name or "|" in name:  # a kernel from the hub
        return
    if name not in ATTENTION:
        raise ConfigError(f"attention: transformers has no {name!r}.{nearest(name, ATTENTION)}")
    if (packages := ATTENTION[name]) and not any(map(is_installed, packages)):
        raise ConfigError(f"attention: {name} needs the package {' or '.join(packages)}: install one, or use sdpa.")
