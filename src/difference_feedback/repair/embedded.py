"""Repairers that need no model: the oracle, the blind rewriter, and the reference itself. They are bounds, not methods.

The oracle shows what the method could reach with repairs that know the truth. The blind rewriter shows what perfect
sentences could reach without the truth. The reference in the repair's place shows what the method is worth without a
repair model. Their processor time is negligible.
"""

import re
from collections.abc import Sequence
from typing import Any

from difference_feedback.data.conversations import text_of
from difference_feedback.errors import DataError
from difference_feedback.method.repairs import Repair, Repairer, RepairRequest
from difference_feedback.models.end_tokens import end_of
from difference_feedback.models.outside_text import encode_text
from difference_feedback.repair.projection import begin_as
from difference_feedback.world import Problem
from difference_feedback.world.blind_rewriter import rewrite_blind
from difference_feedback.world.oracle import FLAWLESS, Flaws, flawed_repair


class ReferenceRepairer:
    """The reference takes the repair's place: masks straight from the difference to another right answer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def repair(self, requests: Sequence[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
        """One repair for each request, whatever `num_samples`: further ones would be the same."""
        return [[_as_repair(_reference(request).strip(), request, self.tokenizer)] for request in requests]


class OracleRepairer:
    """The embedded oracle's repairs: the closest right answer. A ceiling, since it knows the truth.

    `problems` are those that the policy is trained on; a request's problem is found by its question and its image.
    `flaws` make known shares of the repairs worse.
    """

    name = "oracle"

    def __init__(self, tokenizer: Any, problems: Sequence[Problem], flaws: Flaws = FLAWLESS) -> None:
        self.tokenizer = tokenizer
        self.flaws = flaws
        self.problems = {_key(problem.question, problem.images): problem for problem in problems}

    def repair(self, requests: Sequence[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
        """One repair for each request, whatever `num_samples`: nothing is drawn. None where none can be written.

        Raises `DataError` for a request whose problem is not among `problems`.
        """
        texts = [self._text(request) for request in requests]
        return [
            [] if text is None else [_as_repair(text, request, self.tokenizer)]
            for text, request in zip(texts, requests, strict=True)
        ]

    def _text(self, request: RepairRequest) -> str | None:
        problem = self.problems.get(_key(text_of(request.prompt[-1]), request.images))
        if problem is None:
            raise DataError(
                f"repair_model: {self.name} knows only the embedded problems of this run: use another for other data."
            )
        draft = self.tokenizer.decode(request.draft_ids, skip_special_tokens=True)
        return self.write(problem, draft, request)

    def write(self, problem: Problem, draft: str, request: RepairRequest) -> str | None:
        """The repair of one draft."""
        return flawed_repair(problem, draft, self.tokenizer, self.flaws)


class BlindRewriter(OracleRepairer):
    """Readings carried over from the reference; of the truth it knows nothing. See `world.blind_rewriter`."""

    name = "blind_rewriter"

    def write(self, problem: Problem, draft: str, request: RepairRequest) -> str | None:
        return rewrite_blind(problem, draft, _reference(request), self.tokenizer)


def embedded_repairer(name: str, tokenizer: Any, problems: Sequence[Problem], flaws: Flaws = FLAWLESS) -> Repairer:
    """The repairer of that name, one of `EMBEDDED_REPAIRERS`. `problems` are the embedded ones trained on."""
    if name == "reference":
        return ReferenceRepairer(tokenizer)
    kinds: dict[str, type[OracleRepairer]] = {kind.name: kind for kind in (OracleRepairer, BlindRewriter)}
    return kinds[name](tokenizer, problems, flaws)


def _reference(request: RepairRequest) -> str:
    if request.reference is None:
        raise DataError("field 'reference' is missing, and this repairer needs it: give the request a reference.")
    return request.reference


def _as_repair(text: str, request: RepairRequest, tokenizer: Any) -> Repair:
    """In tokens, begun and ended as the draft is: an end that the draft lacks would be one more edit."""
    end, written = end_of(request.draft_ids, tokenizer), begin_as(request.draft_ids, text, tokenizer)
    return Repair([*encode_text(tokenizer, written, frozenset(request.draft_ids)), *end], text)


def _key(question: str, images: Sequence[Any]) -> tuple[str, tuple[bytes, ...]]:
    question = re.sub(r"\s+", " ", question).strip()
    return question, tuple(image.convert("RGB").tobytes() for image in images)
