"""A model's processor and the size of its context, without its weights."""

from functools import lru_cache
from typing import Any

from difference_feedback.errors import ConfigError
from difference_feedback.runs.model_folder import adapter_base, check_model, place_of


@lru_cache(maxsize=4)
def load_processor(name: str) -> Any:
    """The processor of `nano`, a folder (also of an adapter), or a hub name. Raises `ConfigError` as `load_model`."""
    return _load(name, "AutoProcessor")


def context_of(name: str) -> int | None:
    """The number of tokens that a model takes, prompt and answer together; None where its configuration has none."""
    return getattr(load_config(name).get_text_config(), "max_position_embeddings", None)


def load_config(name: str) -> Any:
    """The model's configuration. Raises `ConfigError` as `load_model`."""
    return _load(name, "AutoConfig")


def _load(name: str, loader: str) -> Any:
    check_model(name)
    if name == "nano":
        from difference_feedback.world.nano import SHIPPED

        return _load(str(SHIPPED), loader)
    if (base := adapter_base(name)) is not None:
        return _load(base, loader)
    import transformers

    path = place_of(name)
    try:
        return getattr(transformers, loader).from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"model {name}: {str(error).splitlines()[0]}") from error
