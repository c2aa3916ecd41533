"""A critic for Qwen2.5-VL: its backbone with one value per token.

verl 0.9.1 builds critics by `AutoModelForTokenClassification`, which transformers has for text models only, or else by
a class that TRL no longer has. This module registers one when it is imported, which verl does in every worker.
"""

from transformers import AutoModelForTokenClassification, Qwen2_5_VLConfig, Qwen2_5_VLPreTrainedModel
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping
from transformers.modeling_layers import GenericForTokenClassification


class Qwen2_5_VLForTokenClassification(GenericForTokenClassification, Qwen2_5_VLPreTrainedModel):
    """Qwen2.5-VL with a linear head on its last hidden states, `(B, T, 1)`."""


AutoModelForTokenClassification.register(Qwen2_5_VLConfig, Qwen2_5_VLForTokenClassification, exist_ok=True)
# Without the renaming of the generating class, none of a checkpoint's text weights would be loaded, without a warning.
register_checkpoint_conversion_mapping(
    Qwen2_5_VLForTokenClassification.__name__,
    get_checkpoint_conversion_mapping("Qwen2_5_VLForConditionalGeneration"),
    overwrite=True,
)
