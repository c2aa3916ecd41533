"""A row with a blank image beside rows without any, so that every rank runs the vision tower in every micro-batch.

Ranks that train together wait for each other's gradients of every weight. The row's outputs are thrown away, so the
gradients that it adds are exactly 0.
"""

from typing import Any

import torch
from PIL import Image

SIDE = 56  # pixels


def blank_row(processor: Any) -> dict[str, torch.Tensor] | None:
    """What the processor makes of a prompt with a blank image; None where its images are not counted by grids."""
    content = [{"type": "image"}, {"type": "text", "text": "x"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    image = Image.new("RGB", (SIDE, SIDE))
    row = dict(processor(text=[text], images=[[image]], add_special_tokens=False, return_tensors="pt"))
    return row if "image_grid_thw" in row else None


def add_blank_row(
    row: dict[str, torch.Tensor], ids: torch.Tensor, mask: torch.Tensor, fields: dict[str, Any], keep: int, pad: int
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Ids and mask `(B + 1, P + T)` and the fields of a forward pass, with `row` as the last one.

    `fields` are those of rows without images, by token. `keep` is `T`: completions are padded on the right, prompts on
    the left, so a longer prompt of the new row adds columns there.
    """
    length = row["input_ids"].shape[1]
    width = max(ids.shape[1], length + keep)

    def joined(rows: torch.Tensor, new: torch.Tensor, fill: int) -> torch.Tensor:
        whole = rows.new_full((len(rows) + 1, width), fill)
        whole[:-1, width - rows.shape[1] :] = rows
        whole[-1, width - keep - length : width - keep] = new[0].to(rows)
        return whole

    added: dict[str, Any] = {"pixel_values": row["pixel_values"].to(ids.device)}
    added["image_grid_thw"] = row["image_grid_thw"].to(ids.device)
    added["num_images"] = [0] * len(ids) + [1]
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in row:
            added[name] = joined(fields.get(name, torch.zeros_like(ids)), row[name], 0)
    return joined(ids, row["input_ids"], pad), joined(mask, row["attention_mask"], 0), added
