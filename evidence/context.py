"""What the templates in pages/ can name: studies, kept values, and figures and sentences made from both."""

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

import script_tables
import tables
from difference_feedback.report.dose import SHIPPED, Dose, dose_from
from dose import dose_of
from speed_measures import STEPS
from speed_table import medians, step_ratios, step_table
from study import Kept, Study, verdict

WIDTH = 128
PAGES = Path(__file__).parent / "pages"
BASE = Path(__file__).parents[1] / "src/difference_feedback/world/shipped_base/summary.json"
FAIR_PAIRS = (
    ("df_grpo", "grpo"),
    ("df_gspo", "gspo"),
    ("sibling", "grpo"),
    ("blind_rewriter", "grpo"),
    ("oracle", "grpo"),
    ("gspo", "grpo"),
    ("supervised", "grpo"),
    ("sibling", "df_grpo"),
    ("blind_rewriter", "df_grpo"),
)
WEIGHTS = ("df_grpo", "weights_off", "random", "inverted", "wrong_only", "repair_only", "sibling", "sibling_off")


def environment() -> Environment:
    """Where templates become pages: an unknown name is an error, and so is one that is missing in the data."""
    made = Environment(
        loader=FileSystemLoader(PAGES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown
    )
    made.filters |= {
        "share": lambda value: f"{100 * value:.0f} %",
        "share1": lambda value: f"{100 * value:.1f} %",
        "one": lambda value: f"{value:.1f}",
        "two": lambda value: f"{value:.2f}",
        "accuracy_table": tables.accuracy_table,
        "cost_table": tables.cost_table,
        "difference_table": tables.difference_table,
        "mask_table": tables.mask_table,
        "paper_table": tables.paper_table,
        "plan_table": tables.plan_table,
        "repair_table": tables.repair_table,
        "task_table": tables.task_table,
    }
    return made


def render(template: str, context: Mapping[str, Any]) -> str:
    """A page or block, its paragraphs filled anew; conditions that do not hold leave no gaps."""
    return filled(environment().get_template(template).render(context)).strip() + "\n"


def filled(text: str) -> str:
    """Paragraphs and list items in lines of at most `WIDTH` letters; tables, pictures and headings as they are."""
    parts: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        if paragraph.lstrip().startswith(("|", "!", "#", "<")):
            parts.append(paragraph.strip("\n"))
            continue
        items = re.split(r"\n(?=(?:- |\d+\. ))", paragraph)
        parts.append("\n".join(_fill(item) for item in items))
    return "\n\n".join(parts)


def _fill(item: str) -> str:
    marker = re.match(r"- |\d+\. |", item)
    indent = " " * len(marker[0]) if marker else ""
    return textwrap.fill(
        " ".join(item.split()), WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def context(kept: Kept) -> dict[str, Any]:
    """All names of the templates."""
    return {**_fair(kept), **_paper(kept), **_dose(kept), **_why(kept), **_cost(kept), **_tried(kept)}


def fair_studies(kept: Kept) -> list[Study]:
    """The fair comparison, by its two budgets."""
    return [Study(name, kept.rows(name)) for name in ("bench_fair", "bench_fair_long")]


def _fair(kept: Kept) -> dict[str, Any]:
    studies = fair_studies(kept)
    shown = [study for study in studies if study.shown and study.has("grpo")]

    def compared(method: str, against: str) -> list[Study]:
        return [study for study in shown if study.pair(method, against)]

    def ends(method: str, against: str) -> str:
        where = compared(method, against)
        parts = [
            f"{study.side(method, against)}{'' if i else ' ' + study.label(against)} after {study.seconds} s "
            f"({study.interval(method, against)})"
            for i, study in enumerate(where)
        ]
        none = ": no measurable difference" if all(not s.outcome(method, against) for s in where) else ""
        return " and ".join(parts) + none

    rows = shown[0].rows if shown else kept.rows("bench_full")
    grpo = [row for row in rows if row["method"] == "grpo" and row["steps"]]
    base = json.loads(BASE.read_text(encoding="utf-8"))
    return {
        "fair_studies": studies,
        "fair": studies[0],
        "long": studies[1],
        "shown": shown,
        "fair_pairs": FAIR_PAIRS,
        "repairs": tables.REPAIRS,
        "states": [study.state for study in studies if study.state],
        "pending": pending(studies),
        "measured": lambda method, against: bool(compared(method, against)),
        "ends": ends,
        "verdict": lambda *pairs: verdict([s.outcome(*pair) for pair in pairs for s in compared(*pair)]),
        "summary": tables.summary_table(shown) if shown else "",
        "fair_note": " ".join([_same(shown), *(study.state for study in studies if study.state)]) if shown else "",
        "tuning": tables.tuning_table(kept.rows("bench_tune")),
        "world": {
            "parameters": f"{base['parameters'] / 1e6:.2f} M",
            "tasks": len(base["tasks"]),
            "tokens": f"{mean(row['work']['generated_tokens'] / row['steps'] / ANSWERS for row in grpo):.0f}",
        },
    }


def pending(studies: Sequence[Study]) -> str:
    """One sentence, or one a plan, about those that are not finished."""
    if any(study.started for study in studies):
        return " ".join(study.state for study in studies if study.state)
    return f"Its results are not here yet; {' and '.join(study.command for study in studies)} make them."


RIGHT = 0.8
"""The share of right repairs that the sentence about dose and response is about: the paper reports 0.81."""
ANSWERS = 64
"""Sampled for one update in all plans of the bench."""


def _same(shown: Sequence[Study]) -> str:
    study = shown[0]
    start = f", from a start of {study.accuracy('base')}" if study.has("base") else ""
    return (
        f"Held-out accuracy over {study.wanted} seeds, {study.problems} problems each{start}. The baseline is GSPO for "
        "DF-GSPO, else GRPO."
    )


def _paper(kept: Kept) -> dict[str, Any]:
    plans = ("bench_ablations", "bench_edit_cost", "bench_repairs", "bench_peers")
    return {
        **{plan: Study(plan, kept.rows(plan)) for plan in plans},
        "claims": kept.values("paper"),
        "full": Study("bench_full", kept.rows("bench_full"), partial=True),
        "weights": WEIGHTS,
    }


def dose_values(kept: Kept) -> dict[str, Any]:
    """The values of dose.json: those of `bench_dose` once it has two seeds of five points, else those that it has.

    Points with fewer seeds than the plan's stand in the rule, too: their number is part of its interval.
    """
    rows = kept.rows("bench_dose")
    measured = dose_of(rows) if any(row["method"] == "grpo" for row in rows) else {"points": []}
    return measured if len(measured["points"]) >= 5 else json.loads(SHIPPED.read_text(encoding="utf-8"))


def dose_rule(kept: Kept) -> Dose:
    """The rule of dose and response by today's results."""
    return dose_from(dose_values(kept))


def _dose(kept: Kept) -> dict[str, Any]:
    rule = dose_rule(kept)
    return {
        "dose": Study("bench_dose", kept.rows("bench_dose")),
        "rule": rule,
        "dose_sentence": dose_sentence(rule),
        "dose_table": tables.dose_table(rule.points),
    }


def dose_sentence(rule: Dose) -> str:
    """How many of the right repairs must be clean, where `RIGHT` of all repairs are right; else, where all are."""
    clean = rule.break_even(RIGHT)
    shares = [RIGHT] if clean is not None and clean <= 1 else [RIGHT, 1.0]
    basis = f"This is the rule fitted to {len(rule.points)} points of {len(rule.seeds)} seeds."
    return " ".join([*(_needed(rule, right) for right in shares), basis])


def _needed(rule: Dose, right: float) -> str:
    """From which share of clean ones on repairs pay, where the share `right` of all repairs is right."""
    clean = rule.break_even(right)
    sure = next((share for share in range(101) if rule.gain(right, share / 100).verdict == "pays"), None)
    where = f"Where {100 * right:.0f} % of the repairs are right, DF"
    if clean is None or clean > 1:
        return f"{where} does not gain on GRPO, however clean they are."
    least = f"if at least {100 * clean:.0f} % of these are clean" if clean > 0 else "however few of these are clean"
    if sure is None:
        return f"{where} gains on GRPO {least}, but the 95 % interval is nowhere wholly above 0."
    return f"{where} gains on GRPO {least}; the 95 % interval excludes 0 from {sure} % on."


def _why(kept: Kept) -> dict[str, Any]:
    gradients, use, plausible = (kept.values(name) for name in ("gradients", "reference_use", "plausible_repairs"))
    log_ratio = kept.values("log_ratio")

    def ways(model: str, way: str, figure: str) -> str:
        return f"{mean(run['ways'][way][figure] for run in log_ratio[model]):.2f}"

    return {
        "gradients": gradients,
        "oracle": gradients["the oracle's repairs"]["figures"],
        "trained": gradients["a trained model's repairs"]["figures"],
        "use": use,
        "plausible": plausible,
        "ways": ways,
        "gradient_table": script_tables.gradient_table(gradients),
        "reference_table": script_tables.reference_table(use),
        "plausible_table": script_tables.plausible_table(plausible),
        "log_ratio_table": script_tables.log_ratio_table(log_ratio),
        "repairers_table": script_tables.repairers_table(use),
    }


def _cost(kept: Kept) -> dict[str, Any]:
    rows = kept.lines("speed")
    figures = medians(rows)
    step = figures["a training step of DF-GRPO, s"][1]
    passes = figures["passes for one token of the longest repair"]
    return {
        "steps": STEPS,
        "step_table": step_table(rows),
        "step_ratio": median(step_ratios(rows)[1]),
        "repair_share": figures["of it repair, s"][1] / step,
        "wasted_ratio": figures["a training step of GRPO, s"][0] / figures["a training step of GRPO, s"][1],
        "fewer_passes": passes[0] / passes[1],
    }


def _tried(kept: Kept) -> dict[str, Any]:
    rows = kept.rows("bench_tried")
    return {
        "long_before": Study("bench_long", kept.rows("bench_long"), partial=True),
        "tried_study": Study("bench_tried", rows, partial=True),
        "tried": lambda method: next(row["accuracy"] for row in rows if row["method"] == method),
        "best_tried": max(rows, key=lambda row: row["accuracy"]),
        "tuning_before": tables.tuning_table(kept.rows("bench_tune_before")),
    }
