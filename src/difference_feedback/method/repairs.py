"""What every repair model offers: wrong answers in, candidates out, and what a candidate must be. [DF, Eq. 5]"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from difference_feedback.errors import DataError
from difference_feedback.method.masks import FloatArray

REFUSALS = (
    "empty",
    "vision_token",
    "steering_token",
    "out_of_range",
    "too_long",
    "wrapped",
    "unreadable",
    "missing",
)
"""Why a repair cannot be used: see `usable_repairs`."""


@dataclass(frozen=True)
class RepairRequest:
    """One wrong answer to repair.

    `prompt` is the policy's own chat conversation, its image parts `{"type": "image"}` in the order of `images`.
    `draft_ids` is the wrong answer as it was sampled, the end-of-sequence token included when it was sampled.
    `reference` is the text of a correct answer: another rollout of the group, or the annotated answer. None withholds
    it, as the blank-image test does.
    """

    prompt: list[dict[str, Any]]
    images: Sequence[Image.Image]
    draft_ids: list[int]
    reference: str | None
    seed: int | None = None
    """Start of this request's own random streams, one for each candidate: what is sampled beside it changes no draw.
    None: it draws from the call's stream."""


@dataclass(frozen=True)
class Repair:
    """A candidate repair, in the policy's tokens, the end-of-sequence token included when it was generated."""

    token_ids: list[int]
    text: str
    projected: bool = False
    """It came as text and was put into the policy's tokens: these are not the ones that were sampled."""
    fault: str | None = None
    """Why it cannot be used, one of `REFUSALS`: "wrapped" (the model wrote more than the repair, and the two cannot be
    told apart; see `repair.wrapping`), "steering_token" (its text spells one), "unreadable" (a server sent no text, or
    no token ids)."""


class Repairer(Protocol):
    """A repair model. The caller grades its candidates: the model never says whether a repair is right.

    If it has `calls`, a trainer sets it to the number of the call, to draw by. If it has
    `adopt(device, dtype, max_new_tokens)`, a trainer calls it once, with its own.
    """

    def repair(self, requests: Sequence[RepairRequest], num_samples: int = 1) -> list[list[Repair]]:
        """Return `num_samples` candidates for each request, in the order of the requests."""
        ...


@runtime_checkable
class DraftScorer(Protocol):
    """A repair model that says how probable it finds the tokens of a draft; see `method.draft_scores`."""

    def score(self, requests: Sequence[RepairRequest], temperature: float = 1.0) -> list[FloatArray | None]:
        """Log-probability of each draft token as the answer to the request's repair prompt, `(T,)`; nothing is sampled.

        The drafts are in the model's own tokens. None for a request whose prompt and draft the model cannot take.
        `temperature` divides the logits.
        """
        ...


@dataclass(frozen=True)
class Limits:
    """What a repair must keep to so that the policy can be trained on it."""

    vision_ids: frozenset[int]
    vocabulary: int
    max_length: int
    """The policy's longest completion: it could never have sampled a longer one."""
    end_ids: frozenset[int] = frozenset()
    """The tokens that end an answer of the policy; see `models.end_tokens`."""
    steering_ids: frozenset[int] = frozenset()
    """The special tokens that steer the model. None is a part of an answer, but for its end, and for those that the
    draft has, too."""

    def refusal(self, token_ids: Sequence[int], draft_ids: Sequence[int] = ()) -> str | None:
        """Why the policy cannot be trained on this repair; None where it can."""
        if not token_ids:
            return "empty"
        if min(token_ids) < 0 or max(token_ids) >= self.vocabulary:
            return "out_of_range"
        if not self.vision_ids.isdisjoint(token_ids):
            return "vision_token"
        inside = token_ids[:-1] if token_ids[-1] in self.end_ids else token_ids
        if not self.steering_ids.isdisjoint(set(inside) - set(draft_ids[:-1])):
            return "steering_token"
        return "too_long" if len(token_ids) > self.max_length else None


def ask(repairer: Repairer, requests: Sequence[RepairRequest], num_samples: int) -> list[list[Repair]]:
    """The candidates for each request, whoever made them: token ids as plain numbers, and None as no candidates.

    Raises `DataError` where the repairer returns something else.
    """
    answers = repairer.repair(requests, num_samples) if requests else []
    name = f"{type(repairer).__name__}.repair"
    if not hasattr(answers, "__len__") or len(answers) != len(requests):
        got = f"{len(answers)} lists" if hasattr(answers, "__len__") else type(answers).__name__
        raise DataError(
            f"{name} returned {got} for {len(requests)} requests; it must return one list of repairs per request, in "
            "the order of the requests."
        )
    candidates = []
    for number, repairs in enumerate(answers):
        try:
            of_request = [] if repairs is None else repairs
            candidates.append([replace(each, token_ids=list(map(index, each.token_ids))) for each in of_request])
        except (TypeError, AttributeError):
            raise DataError(
                f"{name} returned {repairs!r:.200} for request {number}; give a list of Repair(token_ids, text), the "
                "token ids as whole numbers, or None where there is no repair."
            ) from None
    return candidates


def usable_repairs(
    repairs: Sequence[Repair], expected: int, limits: Limits, draft_ids: Sequence[int] = ()
) -> tuple[list[Repair], Counter[str]]:
    """The repairs that the policy can be trained on, and the number of the others by reason. [DF, Eq. 5]

    `expected` were requested; those that did not come are counted as "missing". A repair that has an end gets the
    draft's, where that has one, too: which of several ends a model took is no repair of the answer.
    """
    repairs = [replace(repair, token_ids=_ended_as(repair.token_ids, draft_ids, limits.end_ids)) for repair in repairs]
    reasons = [repair.fault or limits.refusal(repair.token_ids, draft_ids) for repair in repairs]
    refused = Counter(reason for reason in reasons if reason is not None)
    refused["missing"] += max(0, expected - len(repairs))
    return [repair for repair, reason in zip(repairs, reasons, strict=True) if reason is None], refused


def _ended_as(token_ids: list[int], draft_ids: Sequence[int], ends: frozenset[int]) -> list[int]:
    if ends.isdisjoint(token_ids[-1:]) or ends.isdisjoint(draft_ids[-1:]):
        return token_ids
    return [*token_ids[:-1], int(draft_ids[-1])]
