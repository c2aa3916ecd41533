"""Keys and values of a batch whose rows grow by different numbers of tokens."""

from collections.abc import Sequence
from typing import Any

import torch

_HOLES = 8
"""Holes are closed when they are more than one in so many places of the longest row."""


class RaggedCache:
    """A cache with a mask of the places that count, `(B, T)`: the others are padding, and tokens taken back (holes).

    A hole is never attended to. It changes no position where the model is told the positions. A sliding window counts
    places, so with one each hole is closed before the next pass.
    """

    def __init__(self, cache: Any, mask: torch.Tensor, sliding: bool) -> None:
        self.cache = cache
        self.mask = mask
        self.lengths: list[int] = mask.sum(1).tolist()
        self._sliding = sliding
        self._holes = False

    def attended(self, fed: Sequence[int], width: int) -> torch.Tensor | None:
        """The mask `(B, T + width)` for a pass that feeds row `b` the first `fed[b]` of `width` tokens.

        None where all places count.
        """
        if min(fed) == width and min(self.lengths) == self.mask.shape[1]:
            return None
        return torch.cat([self.mask, self._first(fed, width)], dim=1).long()

    def add(self, kept: Sequence[int], width: int) -> None:
        """After that pass: the first `kept[b]` tokens of row `b` count; the others are taken back."""
        most = max(kept)
        if most < width:
            for layer in self._layers():
                layer.keys, layer.values = layer.keys[:, :, : most - width], layer.values[:, :, : most - width]
        holes = min(kept) < most
        self.mask = torch.cat([self.mask, self._first(kept, most) if holes else self.mask.new_ones(len(kept), most)], 1)
        self.lengths = [length + more for length, more in zip(self.lengths, kept, strict=True)]
        self._holes |= holes

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows alone, and close holes where they cost more than to close them."""
        lengths = [self.lengths[row] for row in rows]
        places = self.mask.shape[1]
        close = self._holes and (self._sliding or (places - max(lengths)) * _HOLES > max(lengths))
        if len(rows) == len(self.lengths) and not close:
            return
        index = torch.tensor(list(rows), device=self.mask.device)
        # Places that count are moved to the right, in their order. What is then on the left of all rows is left out.
        order = self.mask[index].long().argsort(dim=1, stable=True)[:, places - max(lengths) :]
        self.mask = self.mask[index].gather(1, order)
        self.lengths, self._holes = lengths, False
        for layer in self._layers():
            layer.keys, layer.values = _moved(layer.keys, index, order), _moved(layer.values, index, order)

    def _layers(self) -> list[Any]:
        return [layer for layer in self.cache.layers if layer.is_initialized]

    def _first(self, counts: Sequence[int], width: int) -> torch.Tensor:
        device = self.mask.device
        return torch.arange(width, device=device) < torch.tensor(list(counts), device=device)[:, None]


def _moved(states: torch.Tensor, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """`(B, H, T, D)` -> `(len(rows), H, T', D)`, with `places` `(len(rows), T')` of each row."""
    rows, places = rows.to(states.device), places.to(states.device)  # a model's layers may be on several devices
    heads, length, size = states.shape[1:]
    first = (rows[:, None, None] * heads + torch.arange(heads, device=states.device)[:, None]) * length
    index = (first + places[:, None]).flatten()
    return states.reshape(-1, size).index_select(0, index).view(len(rows), heads, -1, size)
