"""What a repair must be for a policy to be trained on it."""

from collections.abc import Sequence
from dataclasses import dataclass

REFUSALS = ("empty", "vision_token", "out_of_range", "too_long", "missing")


@dataclass(frozen=True)
class Limits:
    """What a repair must keep to so that the policy can be trained on it."""

    vision_ids: frozenset[int]
    vocabulary: int
    max_length: int
    """The policy's longest completion: it could never have sampled a longer one."""

    def refusal(self, token_ids: Sequence[int]) -> str | None:
        """Why the policy cannot be trained on this repair; None where it can."""
        if not token_ids:
            return "empty"
        if min(token_ids) < 0 or max(token_ids) >= self.vocabulary:
            return "out_of_range"
        if not self.vision_ids.isdisjoint(token_ids):
            return "vision_token"
        return "too_long" if len(token_ids) > self.max_length else None
