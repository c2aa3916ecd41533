"""What the kept results of the two large plans say, and the sentences about them that the README repeats."""

from collections.abc import Sequence
from typing import Any

from difference_feedback.bench.evidence import evidence
from difference_feedback.bench.results import ResultRow
from difference_feedback.runs.loading import load_recipe
from difference_feedback.runs.recipes import BenchRecipe


def compare(rows: Sequence[ResultRow], name: str) -> dict[str, Any]:
    """The evidence in the rows of the methods that the plan of that name has, compared as it compares."""
    plan = load_recipe(name, BenchRecipe)
    return _rounded(evidence(in_plan(rows, plan), {name: method.against for name, method in plan.methods.items()}))


def in_plan(rows: Sequence[ResultRow], plan: BenchRecipe) -> list[ResultRow]:
    """The rows of the plan's methods, in its order."""
    order = {name: i for i, name in enumerate(plan.methods)}
    return sorted((row for row in rows if row["method"] in order), key=lambda row: (order[row["method"]], row["seed"]))


def _rounded(value: Any) -> Any:
    """To six decimals: libraries differ in the last bits."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


def headline(comparison: dict[str, Any]) -> str:
    """The one sentence that the README says of the comparison of DF-GRPO and GRPO."""
    pair = _pair(comparison, "df_grpo", "grpo")
    methods, seconds = comparison["methods"], comparison["budget_cpu_seconds"]
    first, second = (_mean_of(methods[pair[side]], pair["seeds"]) for side in ("method", "against"))
    return (
        f"At the same {seconds:.0f} CPU seconds, the repair model's training included, DF-GRPO ends at "
        f"{100 * first:.1f} % and GRPO at {100 * second:.1f} % from a start of {100 * comparison['base']:.1f} %: "
        f"{_difference(pair)}, {methods[pair['against']]['problems']} held-out problems each."
    )


def long_headline(comparison: dict[str, Any]) -> str:
    """What the longer runs add: repairs that are learned, those of the blind rewriter and the oracle's, minus GRPO."""
    learned, blind, perfect = (
        _pair(comparison, name, "grpo_falling")
        for name in ("df_grpo_falling", "blind_rewriter_falling", "oracle_falling")
    )
    return (
        f"At {comparison['budget_cpu_seconds']:.0f} CPU seconds DF-GRPO minus GRPO is {_difference(learned)}. With the "
        "repairs of a blind rewriter, which writes perfect sentences and never sees the image, it is "
        f"{_difference(blind)}; with those of the embedded world's oracle, which knows the truth, "
        f"{_difference(perfect)}. The repairs of these two are not billed."
    )


def _pair(comparison: dict[str, Any], method: str, against: str) -> dict[str, Any]:
    for pair in comparison["comparisons"]:
        if (pair["method"], pair["against"]) == (method, against):
            return pair
    raise SystemExit(f"The headline compares {method} with {against}, and no results of both are kept.")


def _difference(pair: dict[str, Any]) -> str:
    """A comparison's difference in points, with the interval of the paired t-test where there is one."""
    low, high = (pair["paired_t"][end] for end in ("low", "high"))
    bounds = "" if low is None else f" (95 % interval {100 * low:+.1f} to {100 * high:+.1f})"
    seeds = "one seed" if len(pair["seeds"]) == 1 else f"{len(pair['seeds'])} seeds"
    return f"{100 * pair['difference']:+.1f} points{bounds} over {seeds}"


def _mean_of(method: dict[str, Any], seeds: Sequence[int]) -> float:
    """A method's accuracy over the seeds that a comparison has."""
    values = [value for seed, value in zip(method["seeds"], method["per_seed"], strict=True) if seed in seeds]
    return sum(values) / len(values)
