"""What is logged about repairs and pairs, summed over ranks, and the pairs as a report shows them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from accelerate.utils import gather_object
from transformers import PreTrainedTokenizerBase

from difference_feedback.method.groups import SkipReason
from difference_feedback.method.pairs import Member, WeightedPair
from difference_feedback.method.repairs import REFUSALS, Repair
from difference_feedback.trl.rollouts import Rollouts


def count_pairs(
    usable: Mapping[int, Sequence[Repair]], refused: Mapping[str, int], pairs: Mapping[int, WeightedPair], **more: float
) -> dict[str, float]:
    """This rank's sums: of `usable` repairs, by row, of the others, by reason, of the pairs made, and `more`."""
    counts: defaultdict[str, float] = defaultdict(float, more, pairs=len(pairs))
    counts |= {f"refused/{reason}": float(number) for reason, number in refused.items()}
    counts["projected"] = sum(repair.projected for repairs in usable.values() for repair in repairs)
    for pair in pairs.values():
        counts["edit_cost"] += pair.edit_cost
        for side, weights in pair.weights._asdict().items():
            counts[f"weight/{side}"] += float(weights.sum())
            counts[f"tokens/{side}"] += len(weights)
    return dict(counts)


def pair_metrics(
    ranks: Sequence[Mapping[str, float]], skipped: Mapping[SkipReason, int], unrepaired_prompts: int
) -> dict[str, float]:
    """All ranks' sums as shares and means.

    `skipped` counts prompts for which no repair was requested, by reason; `unrepaired_prompts` those that got no
    feasible one.
    """
    total: defaultdict[str, float] = defaultdict(float)
    for name, value in (count for rank in ranks for count in rank.items()):
        total[name] += value
    pairs, skips = total["pairs"], {**skipped, SkipReason.NO_FEASIBLE_REPAIR: unrepaired_prompts}
    metrics = {name: float(total[name]) for name in ("pairs", "requested", "projected", "filler_rows")}
    metrics |= {f"refused/{reason}": float(total[f"refused/{reason}"]) for reason in REFUSALS}
    metrics |= {f"skipped/{reason.value}": float(skips.get(reason, 0)) for reason in SkipReason}
    if passes := total["speculated/passes"]:
        metrics["repair_tokens_per_pass"] = total["speculated/tokens"] / passes
    if total["requested"]:
        metrics["feasible_share"] = pairs / total["requested"]
    if pairs:
        metrics["edit_cost"] = total["edit_cost"] / pairs
        for side in ("wrong", "repair"):
            metrics[f"weight_density/{side}"] = total[f"weight/{side}"] / max(total[f"tokens/{side}"], 1)
    return metrics


def describe_pairs(
    members: Sequence[Member], rollouts: Rollouts, pairs: Mapping[int, WeightedPair], group_size: int
) -> list[dict[str, Any]]:
    """The pairs as a report shows them: plain lists and numbers, besides `example`, the row of the data set.

    A repair that is no member of the group, as with `regroup=False`, has an advantage of 0.
    """
    advantages = {(member.row, member.is_repair): member.advantage for member in members}
    described = []
    for row, pair in pairs.items():
        prompt, path = (rollouts.offset + row) // group_size, pair.alignment
        shown = {"prompt_index": prompt, "example": rollouts.examples[row], "edit_cost": pair.edit_cost}
        for side, ids, mask, weights, reward in (
            ("wrong", path.source, path.source_mask, pair.weights.wrong, float(rollouts.own_rewards[row])),
            ("repair", path.target, path.target_mask, pair.weights.repair, pair.repair.reward),
        ):
            shown[side] = {
                "token_ids": ids.tolist(),
                "mask": mask.astype(int).tolist(),
                "weights": weights.tolist(),
                "reward": reward,
                "advantage": advantages.get((row, side == "repair"), 0.0),
            }
        described.append(shown)
    return described


def log_repairs(
    logs: dict[str, Any], members: Sequence[Member], rollouts: Rollouts, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Fill TRL's table of completions: the advantages of this group, 0 for answers that left it, and the repairs."""
    advantages, repairs = [0.0] * len(rollouts.prompts), [""] * len(rollouts.prompts)
    for member in members:
        if member.is_repair:
            repairs[member.row] = str(tokenizer.decode(list(member.token_ids), skip_special_tokens=True))
        else:
            advantages[member.row] = member.advantage
    for _ in rollouts.rewards:
        logs["advantages"].pop()
    logs["advantages"].extend(gather_object(advantages))
    logs["extra"]["repair"].extend(gather_object(repairs))
