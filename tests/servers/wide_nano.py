"""A nano VLM at twice the width with the same answers: vLLM's attention on the CPU wants heads of 32 and more.

Every weight keeps its place or moves within its head, and zeros fill the rest, so that what vLLM serves can be compared
with the narrow model token by token. Three things have to make up for the zeros:

- attention divides by the root of a head's width: the queries grow by the root of 2;
- RMSNorm's mean of squares over twice the width is half of what it was: so is its epsilon, and its weights shrink by
  the root of 2;
- the frequencies of rotary positions are `theta ** (-2 i / width)`: dimension `i` of a head moves to `2 i`, where it
  meets its own frequency again. In values, which have no positions, it moves along.
"""

import copy

from transformers import Qwen2_5_VLForConditionalGeneration


def widened(model: Qwen2_5_VLForConditionalGeneration) -> Qwen2_5_VLForConditionalGeneration:
    """A copy of `model` with a language model of twice the width that computes the same function."""
    config = copy.deepcopy(model.config)
    text = config.text_config
    text.hidden_size *= 2
    text.rms_norm_eps /= 2
    text.rope_parameters["mrope_section"] = [2 * size for size in text.rope_parameters["mrope_section"]]
    config.vision_config.out_hidden_size = text.hidden_size
    wide = Qwen2_5_VLForConditionalGeneration(config)
    wide.generation_config = copy.deepcopy(model.generation_config)
    new = wide.state_dict()
    for name, old in model.state_dict().items():
        room = new[name].zero_()
        if name.split(".")[-2] in ("q_proj", "k_proj", "v_proj"):
            room = room[::2]
        elif "o_proj" in name:
            room = room[:, ::2]
        room[tuple(map(slice, old.shape))] = old * _scale(name)
    return wide.eval()


def _scale(name: str) -> float:
    if "self_attn.q_proj" in name:
        return 2**0.5
    return 2**-0.5 if "language_model" in name and "norm" in name else 1.0
