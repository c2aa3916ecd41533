"""Make everything that is generated in docs/evidence.md and in the README's evidence: tables, plots, sentences.

    python docs/evidence_figures.py [runs/bench_full/results.jsonl ...] [--long] [--anew]

Given results are first added to those in docs/evidence.jsonl (those of `bench_long`, with `--long`, to those in
docs/evidence_long.jsonl), or with `--anew` take their place; a cell that is there already is replaced. From these
files alone come docs/evidence.json, the plots in docs/images/ and the marked blocks of the two pages.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from difference_feedback.bench.evidence import evidence
from difference_feedback.bench.plots import compute_plot, forest_plot, mask_plot
from difference_feedback.bench.results import Row, load_results
from difference_feedback.bench.tables import (
    accuracy_table,
    cost_table,
    difference_table,
    mask_table,
    stability_table,
    task_table,
)
from difference_feedback.runs.loading import load_recipe
from difference_feedback.runs.recipes import BenchRecipe

HERE = Path(__file__).parent
RESULTS, LONG = HERE / "evidence.jsonl", HERE / "evidence_long.jsonl"
EVIDENCE, PAGE, README = HERE / "evidence.json", HERE / "evidence.md", HERE.parent / "README.md"
TUNING, TRIED = HERE / "evidence_tuning.jsonl", HERE / "evidence_tried.jsonl"
GRADIENTS, PLAUSIBLE = HERE / "gradients.json", HERE / "plausible_repairs.json"
REFERENCE_USE = HERE / "reference_use.json"
CURVES = ("grpo", "gspo", "df_grpo", "df_gspo", "blind_rewriter", "oracle")
LONG_CURVES = ("grpo_falling", "df_grpo_falling", "labels_falling", "blind_rewriter_falling", "oracle_falling")


def everything_found() -> dict[str, Any]:
    """All of docs/evidence.json: the comparison of `bench_full`, what of it was run at another learning rate under
    `swept`, and under `long` the comparison of `bench_long`."""
    rows = load_results(RESULTS)
    swept = [row for row in rows if row["settings"] or row["method"] == "base"]
    return found_in([row for row in rows if not row["settings"]], "bench_full") | {
        "swept": found_in(swept, "bench_full"),
        "long": found_in(load_results(LONG), "bench_long"),
    }


def found_in(rows: list[Row], name: str) -> dict[str, Any]:
    """The evidence in the rows of the methods that the plan of that name has, compared as it compares."""
    plan = load_recipe(name, BenchRecipe)
    order = {name: i for i, name in enumerate(plan.methods)}
    rows = sorted((row for row in rows if row["method"] in order), key=lambda row: (order[row["method"]], row["seed"]))
    return _rounded(evidence(rows, {name: method.against for name, method in plan.methods.items()}))


def _rounded(value: Any) -> Any:
    """To six decimals: libraries differ in the last bits."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


def blocks(found: dict[str, Any]) -> dict[str, str]:
    """What stands between the markers of the pages, by the marker's name."""
    pairs, long = [(one["method"], one["against"]) for one in found["comparisons"]], found["long"]
    main = [pair for pair in pairs if found["methods"][pair[0]]["group"] == "main"]
    return {
        "headline": headline(found) + "\n\n" + long_headline(long),
        "main": accuracy_table(found, ["main"]) + "\n\n" + difference_table(found, main),
        "long": accuracy_table(long) + "\n\n" + difference_table(long),
        "long_tasks": task_table(long),
        "long_masks": mask_table(long) + "\n\n" + cost_table(long),
        "tasks": task_table(found),
        "controls": accuracy_table(found, ["weights", "repair model", "labels"])
        + "\n\n"
        + difference_table(found, [pair for pair in pairs if pair not in main]),
        "masks": mask_table(found),
        "stability": stability_table(found),
        "cost": cost_table(found),
        "swept": accuracy_table(found["swept"]),
        "reference_use": reference_table(json.loads(REFERENCE_USE.read_text(encoding="utf-8"))),
        "tuning": tuning_table(load_results(TUNING)),
        "tried": tried_table(load_results(TRIED)),
        "plausible": plausible_table(json.loads(PLAUSIBLE.read_text(encoding="utf-8"))),
        "gradients": gradient_table(json.loads(GRADIENTS.read_text(encoding="utf-8"))),
    }


def tuning_table(rows: list[Row]) -> str:
    """A row a cell of the tuning plan."""
    lines = ["| | settings | accuracy on the tuning images |", "|---|---|---|"]
    for row in sorted(rows, key=lambda row: (row["method"], str(row["settings"]))):
        settings = ", ".join(f"`{key}` {value:g}" for key, value in row["settings"].items())
        lines.append(f"| {row['label']} | {settings} | {100 * row['accuracy']:.1f} % |")
    return "\n".join(lines)


def tried_table(rows: list[Row]) -> str:
    """A row a cell of recipes/bench_tried.yaml, in the plan's order."""
    lines = ["| | accuracy on the tuning images | updates | KL from the start |", "|---|---|---|---|"]
    for row in rows:
        kl = "" if row.get("kl_from_start") is None else f"{row['kl_from_start']:.2f}"
        lines.append(f"| {row['label']} | {100 * row['accuracy']:.1f} % | {row['steps'] or ''} | {kl} |")
    return "\n".join(lines)


def gradient_table(found: dict[str, Any]) -> str:
    """A row a method of benchmarks/gradients.py, for every repair model that it was run with."""
    lines = [
        "| | repairs | cosine, one batch | cosine, mean of all batches | noise scale, batches |",
        "|---|---|---|---|---|",
    ]
    for repairs, one in found.items():
        for name, own in one["figures"].items():
            noise = "no signal seen" if own["noise_scale"] is None else f"{own['noise_scale']:.1f}"
            cosines = f"{own['cosine_one_batch']:.2f} | {own['cosine_mean']:.2f}"
            lines.append(f"| {name} | {repairs} | {cosines} | {noise} |")
    return "\n".join(lines)


def plausible_table(found: dict[str, Any]) -> str:
    """A row a threshold of benchmarks/plausible_repairs.py, for every repair model that it was run with."""
    lines = [
        "| repairs | least probable token at least | kept | clean of those | of the clean kept |",
        "|---|---|---|---|---|",
    ]
    for repairs, one in found.items():
        for row in one["thresholds"]:
            shares = " | ".join(f"{100 * row[name]:.0f} %" for name in ("kept", "clean", "clean_kept"))
            lines.append(f"| {repairs} ({one['right']} right of {one['drafts']}) | {row['threshold']:g} | {shares} |")
    return "\n".join(lines)


def reference_table(found: dict[str, Any]) -> str:
    """A row a repairer of benchmarks/reference_use.py; shares in %."""
    shown = {
        "sibling": "a right sibling",
        "flawless": "a flawless answer",
        "foreign": "another question's",
        "none": "none",
    }
    kept = {
        "clean": "clean of those",
        "right_edits": "with right edits",
        "taught_known": "known: right edits",
        "taught_unknown": "not known: right edits",
        "cancelling": "of unedited, before the first edit",
    }
    columns = [*(f"right, shown {name}" for name in shown.values()), *kept.values()]
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    rows = found["models"] | {name: {"sibling": one} for name, one in found["without"].items()}
    for name, one in rows.items():
        right = [f"{100 * one[kind]['right']:.0f}" if kind in one else "" for kind in shown]
        cells = [*right, *(f"{100 * one['sibling'][key]:.0f}" for key in kept)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def headline(found: dict[str, Any]) -> str:
    """The one sentence that the README says of the comparison of DF-GRPO and GRPO."""
    one = _comparison(found, "df_grpo", "grpo")
    first, second = (_mean_of(found["methods"][one[side]], one["seeds"]) for side in ("method", "against"))
    return (
        f"At the same {found['budget_cpu_seconds']:.0f} CPU seconds, the repair model's training included, DF-GRPO "
        f"ends at {100 * first:.1f} % and GRPO at {100 * second:.1f} % from a start of {100 * found['base']:.1f} %: "
        f"{_difference(one)}, {found['methods'][one['against']]['problems']} held-out problems each."
    )


def long_headline(found: dict[str, Any]) -> str:
    """What the longer runs add: learned repairs, faultless ones without the truth, and perfect ones, each less GRPO."""
    learned, faultless, perfect = (
        _comparison(found, name, "grpo_falling")
        for name in ("df_grpo_falling", "blind_rewriter_falling", "oracle_falling")
    )
    return (
        f"At {found['budget_cpu_seconds']:.0f} CPU seconds DF-GRPO less GRPO is {_difference(learned)}. With repairs "
        "of faultless language that know no more than draft and reference it is "
        f"{_difference(faultless)}; with those of the embedded world's oracle, which knows the truth, "
        f"{_difference(perfect)}. The repairs of these two are not billed."
    )


def _comparison(found: dict[str, Any], method: str, against: str) -> dict[str, Any]:
    for one in found["comparisons"]:
        if (one["method"], one["against"]) == (method, against):
            return one
    raise SystemExit(f"The headline compares {method} with {against}, and no results of both are kept.")


def _difference(one: dict[str, Any]) -> str:
    """A comparison's difference in points, with the interval of the paired t-test where there is one."""
    low, high = (one["paired_t"][end] for end in ("low", "high"))
    bounds = "" if low is None else f" (95 % interval {100 * low:+.1f} to {100 * high:+.1f})"
    return f"{100 * one['difference']:+.1f} points{bounds} over {_seeds(one['seeds'])}"


def _mean_of(figures: dict[str, Any], seeds: list[int]) -> float:
    """A method's accuracy over the seeds that a comparison has."""
    own = [value for seed, value in zip(figures["seeds"], figures["per_seed"], strict=True) if seed in seeds]
    return sum(own) / len(own)


def _seeds(seeds: list[int]) -> str:
    return "one seed" if len(seeds) == 1 else f"{len(seeds)} seeds"


def plots(found: dict[str, Any]) -> dict[str, str]:
    """File name -> SVG."""
    rows, long = [row for row in load_results(RESULTS) if not row["settings"]], load_results(LONG)
    compared = [(one["method"], one["against"]) for one in found["comparisons"]]
    near = [pair for pair in compared if "supervised" not in pair]  # which would stretch the axis
    return {
        "evidence_compute.svg": compute_plot(rows, CURVES),
        "evidence_long.svg": compute_plot(long, LONG_CURVES),
        "evidence_forest.svg": forest_plot(found, near),
        "evidence_masks.svg": mask_plot(found),
    }


def marked(text: str, name: str) -> str:
    """What stands between the markers `name` of a page."""
    return text.split(_begin(name))[1].split(_end(name))[0].strip()


def _begin(name: str) -> str:
    return f"<!-- evidence {name}: generated by `python docs/evidence_figures.py` -->"


def _end(name: str) -> str:
    return f"<!-- end of evidence {name} -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="*", help="result files of a bench; without, the kept ones")
    parser.add_argument("--long", action="store_true", help="the given results are those of bench_long")
    parser.add_argument("--anew", action="store_true", help="drop the kept results and keep the given ones alone")
    given = parser.parse_args()
    paths = given.results
    if given.anew and not paths:
        parser.error("--anew without results would leave nothing; name the files that take their place")
    if missing := [str(path) for path in paths if not path.is_file()]:
        parser.error(f"no such file: {', '.join(missing)}")
    if paths:
        kept = LONG if given.long else RESULTS
        sources = paths if given.anew else [*([kept] if kept.is_file() else []), *paths]
        rows = {row["hash"]: row for path in sources for row in load_results(path)}
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.values())
        kept.write_text(text, encoding="utf-8")
        print(f"{len(rows)} cells kept in {kept}")
    everything = everything_found()
    EVIDENCE.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    for name, svg in plots(everything).items():
        (HERE / "images" / name).write_text(svg, encoding="utf-8")
    for page in (PAGE, README):
        text = page.read_text(encoding="utf-8")
        for name, block in blocks(everything).items():
            if _begin(name) in text:
                before, rest = text.split(_begin(name))
                text = f"{before}{_begin(name)}\n{block}\n{_end(name)}{rest.split(_end(name))[1]}"
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
