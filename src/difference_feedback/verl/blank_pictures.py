"""Micro-batches without an image, for models of the Qwen2-VL and Qwen2.5-VL kind.

verl 0.9.1 shows the vision tower a blank picture there, so that its weights take part in every rank's backward pass.
It expects a tensor back, but in transformers 5 the tower gives an object, and the run ends with "has no attribute
'mean'". So verl's function is replaced for such batches when this module is imported, which verl does in every worker.
"""

from typing import Any

import torch
from verl.models.transformers import qwen2_vl

_with_pictures = qwen2_vl._get_input_embeds


def input_embeds(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    pixel_values: torch.Tensor | None = None,
    pixel_values_videos: torch.Tensor | None = None,
    *grids: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Embeddings `(B, T, D)` of texts and pictures, and the mask `(B, T)` on their device, as verl's function."""
    if pixel_values is not None or pixel_values_videos is not None:
        embeds, mask = _with_pictures(model, input_ids, attention_mask, pixel_values, pixel_values_videos, *grids)
        return embeds, mask
    embeds = model.get_input_embeddings()(input_ids)
    vision = model.config.vision_config
    side = 2 * vision.spatial_merge_size
    channels = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    pixels = torch.zeros((side * side, channels), dtype=embeds.dtype, device=embeds.device)
    grid = torch.tensor([[1, side, side]], device=embeds.device)
    features, _ = qwen2_vl.unpack_visual_output(model.visual(pixels, grid_thw=grid))
    mask = attention_mask if attention_mask is None else attention_mask.to(embeds.device)
    return embeds + 0.0 * features.mean(), mask


qwen2_vl._get_input_embeds = input_embeds
