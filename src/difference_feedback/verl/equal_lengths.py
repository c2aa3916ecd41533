"""Batches whose rows are all equally long, such as a rank's only row, with the positions `(C, L)` of Qwen's models.

verl 0.9.1 ends with "split_with_sizes expects split_sizes to sum exactly" there (verl issue 7899): torch takes the
first dimension of such rows for the ragged one, and verl then says that it is the second, without moving the values.
With pairs a rank's share is often that small, so verl's function is replaced when this module is imported, which verl
does in every worker.
"""

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils


def restore_positions(data: TensorDict) -> None:
    """Make `position_ids` `(B, C, L*)` ragged in the last dimension, with the lengths of `input_ids` `(B, L*)`."""
    positions = data.get("position_ids", None)
    if positions is None or not positions.is_nested or positions.dim() != 3:
        return
    offsets, values = data["input_ids"].offsets(), positions.values()
    rows = len(offsets) - 1
    if values.shape[-1] != offsets[-1]:  # (B * C, L): every row after the other
        values = values.unflatten(0, (rows, -1)).transpose(0, 1).flatten(1)
    lengths = offsets.diff().tolist()
    split = list(torch.split(values, lengths, dim=-1))
    data["position_ids"] = tensordict_utils.nested_tensor_from_tensor_list(split, ragged_idx=2)


tensordict_utils.maybe_fix_3d_position_ids = restore_positions
