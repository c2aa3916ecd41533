"""Turn an alignment into weights of tokens: by token or step, hard or soft, padded to a batch. [DF, Eqs. 8-9]"""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method.alignment import Alignment, BoolArray, IntArray

FloatArray: TypeAlias = npt.NDArray[np.float32]
Side = Literal["wrong", "repair"]
Granularity = Literal["token", "step"]

# A line break, a full stop before white space or the end (so not the one in 3.14), or a CJK full stop.
_STEP_END = re.compile(r"(?:\n|[.!?]+[\"'”’)\]]*(?=\s|$)|[。！？]+[”’」』）]*)\s*")


def token_weights(
    alignment: Alignment,
    side: Side = "wrong",
    granularity: Granularity = "token",
    steps: Sequence[int] | IntArray | None = None,
    sigma: float | None = None,
    *,
    root_cause: bool = False,
) -> FloatArray:
    """Weights `w`, float32 `(T,)`, of one side's tokens, from 0 (no update) to 1. [DF, Eqs. 8-9]

    Args:
        side: "wrong" for the wrong answer, "repair" for the repair.
        granularity: with "step", a whole step is marked if any of its tokens is.
        steps: the step of each token of this side, `(T,)`; see `step_ids`. Only "step" needs it.
        sigma: makes the mask soft: `w_t = max(m_t, exp(-d_t / sigma))`, where `d_t` is the distance in tokens to the
            nearest marked token. If no token is marked, all weights are 0. None: the hard mask.
        root_cause: in the wrong answer, mark only the first edited span (`root_cause_mask`); steps and soft weights
            then start from it. The repair is not changed. Ours, beyond the paper.

    Raises:
        ConfigError: the side or the granularity is unknown, or sigma is not above 0.
        DataError: `steps` is missing, or its length is not that of this side.
    """
    if side not in ("wrong", "repair"):
        raise ConfigError(f'side is {side!r}; choose "wrong" or "repair"')
    if side == "repair":
        mask = alignment.target_mask
    else:
        mask = root_cause_mask(alignment) if root_cause else alignment.source_mask
    if granularity == "step":
        if steps is None:
            raise DataError(
                'granularity is "step" but `steps` is missing; make it from the tokens\' texts by step_ids()'
            )
        step_of = np.asarray(steps)
        if step_of.shape != mask.shape:
            raise DataError(
                f"steps has shape {step_of.shape}, but the {side} side has {len(mask)} tokens; give one step per token"
            )
        mask = np.isin(step_of, step_of[mask])
    elif granularity != "token":
        raise ConfigError(f'granularity is {granularity!r}; choose "token" or "step"')
    weights = mask.astype(np.float32)
    if sigma is None:
        return weights
    if not sigma > 0:
        raise ConfigError(f"sigma is {sigma}; give a length in tokens above 0, or None for a hard mask")
    return np.maximum(weights, np.exp(-_distance_to_marked(mask) / sigma)).astype(np.float32)


def root_cause_mask(alignment: Alignment) -> BoolArray:
    """The part of `m`, `(T,)`, in the first edited span of the wrong answer. Ours, beyond the paper.

    After a first error, later tokens often follow correctly from the text before them: after a misread `9 + 8`, `17` is
    right. The edit path marks them too, because the repair goes on from another, right value. Such an update would
    teach the policy not to add. The repair has no such tokens: each of its edited tokens follows from a right context.

    A span is a run of edited tokens between two matched tokens. If the answer first lacks something, the span is the
    anchor, the one token in the place of the gap. Without anchors a gap marks nothing, so the first span that marks a
    token is taken.
    """
    mask = alignment.source_mask
    marked = np.flatnonzero(mask)
    if len(marked) == 0:
        return mask
    first = marked[0]
    # Anchors are matched tokens. An anchor next to an edit belongs to another span, so runs are made of edits alone.
    edited = replace(alignment, anchor_gaps=False).source_mask if alignment.anchor_gaps else mask
    after = np.flatnonzero(~edited[first:])
    end = first + max(1, after[0]) if len(after) else len(mask)
    root = np.zeros_like(mask)
    root[first:end] = True
    return root


def step_ids(token_texts: Sequence[str]) -> IntArray:
    """The step of each token, counted from 0, `(T,)`. Steps end at line breaks and at ends of sentences.

    `token_texts` are the texts of the tokens; joined, they are the answer. White space after the end of a step belongs
    to that step. A token belongs to the step of its first character that is not white space.
    """
    text = "".join(token_texts)
    starts = [0, *accumulate(map(len, token_texts))][: len(token_texts)]
    first = [start + len(token) - len(token.lstrip()) for start, token in zip(starts, token_texts, strict=True)]
    blank = np.array([not token.strip() for token in token_texts], dtype=bool)
    position = np.where(blank, starts, first)
    return np.searchsorted([match.end() for match in _STEP_END.finditer(text)], position, side="right")


def pad_weights(rows: Sequence[npt.ArrayLike], length: int | None = None, fill: float = 0.0) -> FloatArray:
    """Stack rows of weights into a float32 batch `(B, T)`, padded on the right like completions.

    `length` is `T`; by default it is the length of the longest row.

    Raises:
        DataError: a row is longer than `length`.
    """
    arrays = [np.asarray(row, np.float32) for row in rows]
    longest = max(map(len, arrays), default=0)
    if length is None:
        length = longest
    elif longest > length:
        row = next(i for i, values in enumerate(arrays) if len(values) > length)
        raise DataError(f"row {row} has {len(arrays[row])} weights, more than length={length}; give a larger length")
    batch = np.full((len(arrays), length), fill, np.float32)
    for values, out in zip(arrays, batch, strict=True):
        out[: len(values)] = values
    return batch


def _distance_to_marked(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Distance in tokens to the nearest marked token, `(T,)`; infinite if no token is marked."""
    marked = np.flatnonzero(mask).astype(np.float64)
    positions = np.arange(len(mask), dtype=np.float64)
    following = np.searchsorted(marked, positions)
    fenced = np.concatenate(([-np.inf], marked, [np.inf]))
    return np.minimum(positions - fenced[following], fenced[following + 1] - positions)
