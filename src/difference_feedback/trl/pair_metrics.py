"""What is logged about repairs and pairs, summed over ranks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from difference_feedback.method.groups import SkipReason
from difference_feedback.method.limits import REFUSALS
from difference_feedback.trl.candidates import Candidates
from difference_feedback.trl.pair_batch import Member
from difference_feedback.trl.pairing import Repaired


def count_pairs(
    requested: int, candidates: Candidates, repaired: Mapping[int, Repaired], members: Sequence[Member], fillers: int
) -> dict[str, float]:
    """This rank's sums."""
    counts: defaultdict[str, float] = defaultdict(float)
    counts |= {f"refused/{reason}": float(number) for reason, number in candidates.refused.items()}
    counts["projected"] = candidates.projected
    counts |= {"requested": requested, "pairs": len(repaired), "filler_rows": fillers}
    counts["edit_cost"] = sum(repair.edit_cost for repair in repaired.values())
    for member in members:
        if member.row in repaired:
            side = "repair" if member.is_repair else "wrong"
            counts[f"weight/{side}"] += float(member.weights.sum())
            counts[f"tokens/{side}"] += len(member.weights)
    return dict(counts)


def pair_metrics(
    ranks: Sequence[Mapping[str, float]], skipped: Mapping[SkipReason, int], barren_prompts: int
) -> dict[str, float]:
    """All ranks' sums as shares and means.

    `skipped` counts prompts for which no repair was asked, by reason; `barren_prompts` those that got no feasible one.
    """
    total: defaultdict[str, float] = defaultdict(float)
    for rank in ranks:
        for name, value in rank.items():
            total[name] += value
    pairs, requested = total["pairs"], total["requested"]
    skips = {**skipped, SkipReason.NO_FEASIBLE_REPAIR: barren_prompts}
    metrics = {name: float(total[name]) for name in ("pairs", "requested", "projected", "filler_rows")}
    metrics |= {f"refused/{reason}": float(total[f"refused/{reason}"]) for reason in REFUSALS}
    metrics |= {f"skipped/{reason.value}": float(skips.get(reason, 0)) for reason in SkipReason}
    if requested:
        metrics["feasible_share"] = pairs / requested
    if pairs:
        metrics["edit_cost"] = total["edit_cost"] / pairs
        for side in ("wrong", "repair"):
            metrics[f"weight_density/{side}"] = total[f"weight/{side}"] / max(total[f"tokens/{side}"], 1)
    return metrics
