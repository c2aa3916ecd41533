"""Write one self-contained page that shows pairs of answers with their masks."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment

from difference_feedback.method.alignment import BoolArray, edit_cost
from difference_feedback.method.masks import FloatArray
from difference_feedback.report.mask_file import MaskTotals
from difference_feedback.report.mask_pairs import MaskedPair, Tokens
from difference_feedback.report.shown import SHOWN
from difference_feedback.runs.outputs import write_atomically


class TokenRun(NamedTuple):
    """Neighbouring tokens that look the same, with their weight and the reason why they are marked."""

    text: str
    weight: float
    kind: str  # "edit", "anchor", "near" (marked by its step or by soft weights) or "" (not marked)


_EDGES = re.compile(r"(^\s+|\s*\n\s*|\s+$)")


def write_mask_page(path: Path, pairs: Iterable[MaskedPair], totals: MaskTotals, title: str) -> None:
    """Write the page of `pairs`, which are all or some of those in `totals`. It needs no network.

    Every text of an answer is escaped.

    Raises:
        DataError: the file cannot be written.
    """
    template = files("difference_feedback.report").joinpath("mask_page.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    parts = page.generate(
        title=title,
        count=totals.pairs,
        shown=min(totals.pairs, SHOWN),
        mean_cost=totals.cost / max(1, totals.pairs),
        density=totals.weight / max(1, totals.tokens),
        cards=(card(pair, edit_cost(pair.alignment)) for pair in pairs),
    )
    write_atomically(path, parts)


def card(pair: MaskedPair, cost: float) -> dict[str, Any]:
    """A pair for the page: both sides are cut into runs of tokens that look the same."""
    alignment = pair.alignment
    bare = replace(alignment, anchor_gaps=False)  # its masks mark edits alone, without anchors
    wrong = _runs(pair.wrong, pair.wrong_weights, bare.source_mask, alignment.source_mask)
    repair = _runs(pair.repair, pair.repair_weights, bare.target_mask, alignment.target_mask)
    return {
        "id": pair.pair.id,
        "question": pair.pair.question,
        "distance": alignment.distance,
        "cost": cost,
        "sides": [("wrong", "Wrong answer", list(wrong)), ("repair", "Repair", list(repair))],
    }


def _runs(tokens: Tokens, weights: FloatArray, edited: BoolArray, mask: BoolArray) -> Iterator[TokenRun]:
    texts = tokens.texts if tokens.texts is not None else [f" {token}" for token in tokens.ids]
    looks = []
    for text, weight, is_edited, is_marked in zip(texts, weights.tolist(), edited, mask, strict=True):
        kind = "edit" if is_edited else "anchor" if is_marked else "near" if weight > 0.01 else ""
        looks.append((text, round(weight, 2) if kind else 0.0, kind))
    for (weight, kind), group in groupby(looks, key=lambda look: look[1:]):
        text = "".join(look[0] for look in group)
        if not kind:
            yield TokenRun(text, 0.0, "")
        elif not text.strip():  # marked but invisible: white space, or part of a character
            yield TokenRun(text.replace("\n", "⏎\n") if "\n" in text else "␣" if text else "▫", weight, kind)
        else:  # do not shade white space at the edges of a line
            for part in filter(None, _EDGES.split(text)):
                yield TokenRun(part, 0.0, "") if part.isspace() else TokenRun(part, weight, kind)
