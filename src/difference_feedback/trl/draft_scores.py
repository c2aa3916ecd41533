"""Wrong answers that are scored and not repaired: `weights="log_ratio"` and `"doubt"`. See `method.draft_scores`."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.method.groups import SkipReason
from difference_feedback.method.masks import FloatArray
from difference_feedback.method.pairs import GroupRow, Member
from difference_feedback.method.repairs import DraftScorer
from difference_feedback.models.scoring import other_token
from difference_feedback.trl.rollouts import Rollouts, requests_of


@dataclass(frozen=True)
class ScoredDraft:
    """The tokens of a wrong answer as the repair model and the policy find them, and their weights, each `(T,)`."""

    repair_logps: FloatArray
    policy_logps: FloatArray | None
    """None with `doubt`, which does not read them."""
    weights: FloatArray


def refuse_unscorable(repairer: Any, tokenizer: Any, weights: str) -> None:
    """Raise `ConfigError` for a repairer that cannot score the policy's tokens; `tokenizer` is the policy's."""
    if not isinstance(repairer, DraftScorer):
        raise ConfigError(
            f"weights={weights!r}: {type(repairer).__name__} has no method `score` for the probabilities of a "
            "draft's tokens; pass a LocalRepairer, or use weights='mask'."
        )
    token = other_token(tokenizer, getattr(getattr(repairer, "processor", None), "tokenizer", tokenizer))
    if token is not None:
        raise ConfigError(
            f"weights={weights!r}: the repair model's tokenizer does not have {token!r} where the policy's has it, and "
            "drafts are scored token by token; pass a repair model with the policy's tokenizer, or use weights='mask'."
        )


def score_drafts(
    scorer: DraftScorer, rollouts: Rollouts, references: Mapping[int, str], temperature: float
) -> dict[int, FloatArray]:
    """The repair model's log-probabilities of wrong answers (row -> reference), by row, of those that it can score.

    Raises `DataError` when the scorer does not answer every request, token by token.
    """
    requests = requests_of(rollouts, references)
    if not requests:
        return {}
    with torch.no_grad():
        scores = scorer.score(requests, temperature)
    lengths = [len(request.draft_ids) for request in requests]
    if len(scores) != len(requests) or any(
        score is not None and len(score) != length for score, length in zip(scores, lengths, strict=True)
    ):
        raise DataError(
            f"{type(scorer).__name__}.score must return one list for each of {len(requests)} requests, in their order, "
            "with one log-probability for each token of its draft, or None."
        )
    pairs = zip(references, scores, strict=True)
    return {row: np.asarray(score, np.float32) for row, score in pairs if score is not None}


def scored_members(rows: Iterable[GroupRow], rollouts: Rollouts, scored: Mapping[int, ScoredDraft]) -> list[Member]:
    """This rank's rows of the update. There are no repairs among them."""
    members = []
    for row in rows:
        i = row.rollout - rollouts.offset
        if 0 <= i < len(rollouts.prompts):
            ids = rollouts.completion_ids[i]
            weights = scored[i].weights if row.weight is None else np.full(len(ids), row.weight, np.float32)
            members.append(Member(i, ids, weights, row.advantage, False))
    return members


def describe_drafts(
    members: Sequence[Member], rollouts: Rollouts, scored: Mapping[int, ScoredDraft], group_size: int
) -> list[dict[str, Any]]:
    """The scored wrong answers as `metrics.describe_pairs` shows pairs, without a repair."""
    advantages = {member.row: member.advantage for member in members}
    return [
        {
            "prompt_index": (rollouts.offset + row) // group_size,
            "example": rollouts.examples[row],
            "wrong": {
                "token_ids": [int(i) for i in rollouts.completion_ids[row]],
                "repair_logps": draft.repair_logps.tolist(),
                "weights": draft.weights.tolist(),
                "reward": float(rollouts.own_rewards[row]),
                "advantage": advantages[row],
            },
        }
        for row, draft in scored.items()
    ]


def draft_sums(scored: Mapping[int, ScoredDraft], requested: int) -> dict[str, float]:
    """This rank's sums, of which `draft_metrics` makes shares and means."""
    sums = {"requested": float(requested), "scored": float(len(scored)), "tokens": 0.0, "weight": 0.0, "doubted": 0.0}
    sums |= {"repair": 0.0, "policy": 0.0}
    for draft in scored.values():
        sums["tokens"] += len(draft.weights)
        sums["weight"] += float(draft.weights.sum())
        sums["doubted"] += int((draft.weights >= 0.5).sum())
        sums["repair"] += float(draft.repair_logps.sum())
        sums["policy"] += 0.0 if draft.policy_logps is None else float(draft.policy_logps.sum())
    return sums


def draft_metrics(
    ranks: Sequence[Mapping[str, float]], skipped: Mapping[SkipReason, int], by_policy: bool
) -> dict[str, float]:
    """All ranks' sums as shares and means over tokens; `by_policy`: whether the policy's log-probabilities are read."""
    total: Counter[str] = Counter()
    for sums in ranks:
        total.update(sums)
    metrics = {name: float(total[name]) for name in ("requested", "scored")}
    metrics["refused/missing"] = float(total["requested"] - total["scored"])
    metrics |= {f"skipped/{reason.value}": float(skipped.get(reason, 0)) for reason in SkipReason}
    if tokens := total["tokens"]:
        metrics["weight_density/wrong"] = total["weight"] / tokens
        metrics["doubted_share"] = total["doubted"] / tokens
        metrics["draft_logp/repair"] = total["repair"] / tokens
        if by_policy:
            metrics["draft_logp/policy"] = total["policy"] / tokens
    return metrics
