"""Rows selected, padded and filled up, without a model."""

from typing import Any

import numpy as np
import torch

from difference_feedback.method.pairs import Member
from difference_feedback.models.vision_tokens import suppressed, with_logit_bias
from difference_feedback.trl.pair_batch import build_batch, rows_per_rank, select_rows


def _batch(ratio: torch.Tensor) -> dict[str, Any]:
    """Three rollouts with two, one and no images of 4, 8 and 4 patches; a patch's value names its image."""
    return {
        "prompt_ids": torch.tensor([[0, 11, 12], [21, 22, 23], [0, 0, 31]]),
        "prompt_mask": torch.tensor([[0, 1, 1], [1, 1, 1], [0, 0, 1]]),
        "completion_ids": torch.zeros(3, 5, dtype=torch.long),
        "mm_token_type_ids": torch.tensor([[0, 1, 1, 0, 0, 0, 0, 0], [1] * 3 + [0] * 5, [0] * 8]),
        "pixel_values": torch.cat([torch.full((4, 2), 1.0), torch.full((8, 2), 2.0), torch.full((4, 2), 3.0)]),
        "image_grid_thw": torch.tensor([[1, 2, 2], [1, 2, 4], [1, 2, 2]]),
        "num_images": [2, 1, 0],
        "importance_sampling_ratio": ratio,
    }


def _member(row: int, length: int, is_repair: bool) -> Member:
    return Member(row, list(range(1, length + 1)), np.full(length, 0.5, np.float32), 1.5 - row, is_repair)


def test_rows_keep_their_own_images() -> None:
    chosen = select_rows(_batch(torch.ones(3, 1)), [1, 2, 0, 1])
    assert chosen["num_images"] == [1, 0, 2, 1]
    assert chosen["image_grid_thw"].tolist() == [[1, 2, 2], [1, 2, 2], [1, 2, 4], [1, 2, 2]]
    assert chosen["pixel_values"][:, 0].tolist() == [3.0] * 4 + [1.0] * 4 + [2.0] * 8 + [3.0] * 4


def test_members_and_fillers_become_rows() -> None:
    ratios = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5], [0.6, 0.7, 0.8, 0.9, 1.0], [2.0] * 5])
    members = [_member(1, 4, False), _member(1, 6, True)]
    batch = build_batch(_batch(ratios), members, 4, pad_id=0)
    assert batch["completion_ids"].tolist() == [[1, 2, 3, 4, 0, 0], [1, 2, 3, 4, 5, 6], [0] * 6, [0] * 6]
    assert batch["completion_mask"].sum(1).tolist() == [4, 6, 0, 0]
    assert (batch["weights"] == 0.5 * batch["completion_mask"]).all()
    assert batch["advantages"].tolist() == [0.5, 0.5, 0.0, 0.0]
    assert batch["prompt_ids"].tolist() == [[21, 22, 23]] * 2 + [[0, 11, 12]] * 2
    assert batch["mm_token_type_ids"].tolist() == [[1, 1, 1] + [0] * 6] * 2 + [[0, 1, 1] + [0] * 6] * 2
    torch.testing.assert_close(
        batch["importance_sampling_ratio"], torch.tensor([[0.6, 0.7, 0.8, 0.9, 1.0, 1.0], *[[1.0] * 6] * 3])
    )
    by_sequence = build_batch(_batch(torch.tensor([[0.5], [0.7], [0.9]])), members, 2, pad_id=0)
    torch.testing.assert_close(by_sequence["importance_sampling_ratio"], torch.tensor([[0.7], [1.0]]))


def test_without_members_there_are_fillers_alone() -> None:
    batch = build_batch(_batch(torch.ones(3, 1)), [], 2, pad_id=9)
    assert batch["completion_ids"].tolist() == [[9], [9]]
    assert batch["completion_mask"].sum() == 0


def test_every_rank_makes_whole_micro_batches() -> None:
    assert rows_per_rank([0, 0], 4) == 4
    assert rows_per_rank([3, 8], 4) == 8
    assert rows_per_rank([9, 2], 4) == 12


def test_users_own_generation_settings_are_kept() -> None:
    assert suppressed({"suppress_tokens": [1]}, frozenset({7, 3})) == [1, 3, 7]
    assert suppressed(None, frozenset({3})) == [3]
    biased = with_logit_bias({"seed": 4, "logit_bias": {1: 2.0}}, frozenset({3}))
    assert biased == {"seed": 4, "logit_bias": {1: 2.0, 3: -100.0}}
