"""Align a wrong answer with its repair, to find the tokens in which they differ. [DF, Eqs. 2 and 8]

The alignment works on token ids as sampled. Re-tokenised text may have other token boundaries, and the rollout's
log-probabilities would then no longer belong to its tokens.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias, cast, get_args

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Editop, Editops, LCSseq, Levenshtein

from difference_feedback.errors import ConfigError, DataError

TokenIds: TypeAlias = Sequence[int] | npt.NDArray[np.integer]
IntArray: TypeAlias = npt.NDArray[np.integer]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

AlignmentMethod = Literal["levenshtein", "lcs"]
Operation = Literal["substitute", "delete", "insert"]

MAX_TOKEN_ID = 2**31 - 1

# An LCS table takes one bit per cell. Above this many cells (32 MiB) the pair is split, so that memory stays linear.
_LCS_CELLS = 2**28


class Edit(NamedTuple):
    """One step of the path from source to target.

    `source` and `target` are positions, each in its own sequence. A deletion removes the token at `source`; the first
    `target` tokens of the target then stand before it. An insertion puts the token at `target` before that at `source`.
    """

    op: Operation
    source: int
    target: int


@dataclass(frozen=True, eq=False)
class Alignment:
    """A shortest edit path from `source` to `target`, and the two masks that follow from it. [DF, Eq. 8]

    A token is marked if the path does not match it with a token of the other side. A gap is a run of tokens between two
    matches to which nothing corresponds on the other side. With `anchor_gaps`, a gap also marks one token of the other
    side: the token right after the place of the gap or, at the end of the sequence, the last token. So a wrong answer
    that merely lacks a step still has a marked token, the one that it wrote in place of the step.

    Bounds: let `p` be the length of the common prefix, and `s` that of the longest common suffix of the rest. Without
    anchors, every marked position lies in `[p, len - s)`. With anchors, a side may have one more marked position: the
    first token of the common suffix or, without a suffix, the last token.
    """

    source: IntArray
    target: IntArray
    method: AlignmentMethod
    anchor_gaps: bool
    _path: Editops

    @property
    def distance(self) -> int:
        """Number of edits: the Levenshtein distance, or insertions plus deletions for `method="lcs"`."""
        return len(self._path)

    @cached_property
    def edits(self) -> tuple[Edit, ...]:
        """The path, in order of position."""
        return tuple(Edit(_OPERATION[op.tag], op.src_pos, op.dest_pos) for op in self._path)

    @property
    def source_mask(self) -> BoolArray:
        """`m`, shape `(len(source),)`: which source tokens take part in an edit."""
        return self._masks[0]

    @property
    def target_mask(self) -> BoolArray:
        """`m̃`, shape `(len(target),)`: which target tokens take part in an edit."""
        return self._masks[1]

    def apply(self) -> IntArray:
        """Apply the edits to the source. The result equals `target`."""
        pieces: list[IntArray] = []
        position = 0
        for op, source, target in self.edits:
            pieces.append(self.source[position:source])
            position = source if op == "insert" else source + 1
            if op != "delete":
                pieces.append(self.target[target : target + 1])
        return np.concatenate([*pieces, self.source[position:]])

    @cached_property
    def _masks(self) -> tuple[BoolArray, BoolArray]:
        n, m = len(self.source), len(self.target)
        source_bytes, target_bytes = bytearray(n), bytearray(m)
        for op, i, j in cast(list[tuple[str, int, int]], self._path.as_list()):
            if op != "insert":
                source_bytes[i] = 1
            if op != "delete":
                target_bytes[j] = 1
        source, target = np.frombuffer(source_bytes, np.bool_), np.frombuffer(target_bytes, np.bool_)
        if self.anchor_gaps and n and m:
            # The k-th unmarked tokens of both sides match each other. Find the matches after unmatched tokens.
            kept = np.concatenate(([-1], np.flatnonzero(~source), [n]))
            kept_target = np.concatenate(([-1], np.flatnonzero(~target), [m]))
            deleted = kept[1:] - kept[:-1] > 1
            inserted = kept_target[1:] - kept_target[:-1] > 1
            source[np.minimum(kept[1:][inserted & ~deleted], n - 1)] = True
            target[np.minimum(kept_target[1:][deleted & ~inserted], m - 1)] = True
        return source, target


def align(
    source: TokenIds, target: TokenIds, method: AlignmentMethod = "levenshtein", anchor_gaps: bool = True
) -> Alignment:
    """Align two token sequences along a shortest edit path. The same pair always gives the same path. [DF, Eq. 8]

    Args:
        source: token ids of the wrong answer, `(T,)`, as sampled: a list, an integer array or a CPU tensor.
        target: token ids of the repair, `(T̃,)`.
        method: "levenshtein" (insertions, deletions, substitutions) or "lcs" (no substitutions: all tokens outside a
            longest common subsequence are edited).
        anchor_gaps: whether a pure insertion or deletion also marks the token in its place on the other side.

    Raises:
        DataError: an id is not an integer from 0 to 2**31 - 1, or a sequence is not one-dimensional.
        ConfigError: the method is unknown.
    """
    source_ids, source_key = _encode("source", source)
    target_ids, target_key = _encode("target", target)
    if isinstance(source_key, str) != isinstance(target_key, str):  # only one side can be written as a string
        source_key, target_key = source_ids.tolist(), target_ids.tolist()
    if method == "levenshtein":
        path = Levenshtein.editops(source_key, target_key)
    elif method == "lcs":
        path = _lcs_path(source_key, target_key)
    else:
        raise ConfigError(f"method is {method!r}; choose one of {', '.join(get_args(AlignmentMethod))}")
    return Alignment(source_ids, target_ids, method, anchor_gaps, path)


def edit_cost(alignment: Alignment) -> float:
    """`C_edit(y, ỹ) = Lev(y, ỹ) / max(|y|, |ỹ|)` in tokens, from 0 (identical) to 1 (nothing shared). [DF, Eq. 2]

    The normaliser is our decision. For an LCS alignment too, the Levenshtein distance is used, in which a substitution
    counts once. Two empty sequences cost 0.
    """
    longest = max(len(alignment.source), len(alignment.target))
    if longest == 0:
        return 0.0
    distance = alignment.distance
    if alignment.method != "levenshtein":
        distance = Levenshtein.distance(alignment.source.tolist(), alignment.target.tolist())
    return distance / longest


_OPERATION: dict[str, Operation] = {"replace": "substitute", "delete": "delete", "insert": "insert"}


def _encode(name: str, ids: TokenIds) -> tuple[IntArray, str | list[int]]:
    """Check the ids. Return them as an array, and as the sequence that rapidfuzz reads fastest.

    The fastest is a string with one character per id. A list is slower, and rapidfuzz compares its items by Python's
    hash, which is equal for -1 and -2, and for 0 and 2**61 - 1. That is another reason to limit the ids.
    """
    if isinstance(ids, str | bytes):
        raise DataError(f"{name} is of type {type(ids).__name__}; pass token ids, a sequence of integers")
    if not isinstance(ids, list | tuple):
        values: IntArray = np.asarray(ids)
        if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
            raise DataError(f"{name} has shape {values.shape} and dtype {values.dtype}; pass one row of integer ids")
        ids = values.tolist()
    try:
        raw = array("I", ids)
    except (TypeError, OverflowError):
        raise _bad_id(name, ids) from None
    array_ids = np.frombuffer(raw, np.int32)
    try:
        return array_ids, raw.tobytes().decode(_UTF32, "surrogatepass")
    except UnicodeDecodeError:  # no character has a code from 0x110000 on
        if array_ids.min() < 0:
            raise _bad_id(name, ids) from None
        return array_ids, array_ids.tolist()


_UTF32 = "utf-32-le" if array("I", [1]).tobytes()[0] == 1 else "utf-32-be"


def _bad_id(name: str, ids: Iterable[object]) -> DataError:
    position, bad = next((i, x) for i, x in enumerate(ids) if not _is_token_id(x))
    return DataError(
        f"{name}: token {position} is {bad!r}; token ids are integers from 0 to 2**31 - 1. "
        "Remove padding and ignored labels such as -100 before aligning"
    )


def _is_token_id(x: object) -> bool:
    return hasattr(x, "__index__") and 0 <= x.__index__() <= MAX_TOKEN_ID


def _lcs_path(source: Sequence[object], target: Sequence[object]) -> Editops:
    """A path along a longest common subsequence. Large tables are split in two by Hirschberg's method."""
    n, m = len(source), len(target)
    if n * m <= _LCS_CELLS:
        return LCSseq.editops(source, target)
    prefix = _common_prefix(source, target)
    suffix = _common_prefix(source[: prefix - n - 1 : -1], target[: prefix - m - 1 : -1])
    operations: list[Editop | tuple[str, int, int]] = []
    parts = [(prefix, n - suffix, prefix, m - suffix)]
    while parts:  # depth first and left part first, so that the operations are in order
        a, b, c, d = parts.pop()
        if b - a <= 1 or (b - a) * (d - c) <= _LCS_CELLS:
            path = LCSseq.editops(source[a:b], target[c:d])
            operations += [(op.tag, a + op.src_pos, c + op.dest_pos) for op in path]
        else:
            middle = (a + b) // 2
            left = _lcs_lengths(source[a:middle], target[c:d])
            right = _lcs_lengths(source[middle:b][::-1], target[c:d][::-1])[::-1]
            split = c + int(np.argmax(left + right))
            parts += [(middle, b, split, d), (a, middle, c, split)]
    return Editops(operations, n, m)


def _common_prefix(source: Sequence[object], target: Sequence[object]) -> int:
    pairs = enumerate(zip(source, target, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(source), len(target)))


def _lcs_lengths(source: Sequence[object], target: Sequence[object]) -> IntArray:
    """Lengths of the LCS of `source` with each prefix of `target`, `(len(target) + 1,)`, in linear memory."""
    source, target = (cast(Sequence[int], [ord(x) for x in s] if isinstance(s, str) else s) for s in (source, target))
    columns = np.asarray(target)
    row = np.zeros(len(columns) + 1, np.int32)
    for token in source:
        diagonal = row[:-1] + (columns == token)
        np.maximum.accumulate(np.maximum(row[1:], diagonal), out=row[1:])
    return row
