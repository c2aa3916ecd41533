"""Load a policy: the nano base that the package ships, a local folder, or a hub name."""

from typing import Any

from difference_feedback.errors import ConfigError
from difference_feedback.models.adapters import load_adapter
from difference_feedback.runs.model_folder import adapter_base, check_model, place_of


def load_model(
    name: str, *, dtype: str = "float32", attention: str | None = None, whole: bool = False
) -> tuple[Any, Any]:
    """The model and its processor, for generation (left padding). `nano` is the shipped base.

    Where the launch shards the trained model, a rank gets its part of the weights, or none until the trainer hands them
    out. `whole` gives every rank all weights: for models that answer before the training, or beside it.

    A folder may also hold a LoRA adapter, which is put on the base that it names. Only safetensors are read and no
    remote code is run. Raises `ConfigError` when there is no such model, or it is no image-text-to-text model that
    transformers knows.
    """
    if whole:
        from difference_feedback.models.ranks import whole_weights

        with whole_weights():
            return load_model(name, dtype=dtype, attention=attention)
    check_model(name)
    if name == "nano":
        from difference_feedback.world.nano import load_base

        nano, processor = load_base(dtype=dtype)
        return _named_as_loaded(nano), processor
    if (base := adapter_base(name)) is not None:
        model, processor = load_model(base, dtype=dtype, attention=attention)
        return load_adapter(model, name).eval(), processor
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()  # loading from disk; downloads keep theirs
    options = {"attn_implementation": attention} if attention else {}
    path = place_of(name)
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            path, dtype=dtype, use_safetensors=True, trust_remote_code=False, **options
        )
        processor = AutoProcessor.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"model {name}: {str(error).splitlines()[0]}") from error
    processor.tokenizer.padding_side = "left"
    return _named_as_loaded(model).eval(), processor


def _named_as_loaded(model: Any) -> Any:
    """`model`, which will be saved under the names of the file that it was loaded from.

    Under ZeRO-3, transformers 5 also undoes renamings that it did not make, and saves `model.model.layers`.
    """
    from transformers.integrations import is_deepspeed_zero3_enabled

    if is_deepspeed_zero3_enabled() and (conversions := getattr(model, "_weight_conversions", None)):
        model._weight_conversions = [conversion for conversion in conversions if conversion.was_used()]
    return model
