"""The result of `repair check`: figures, the place on the chart, one sentence, and a page to look at."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from difference_feedback import __version__
from difference_feedback.data.image_files import data_url
from difference_feedback.judges.embedded_auditor import changed_words
from difference_feedback.report.dose import Dose, MeasuredShare, load_dose
from difference_feedback.report.dose_chart import dose_chart
from difference_feedback.report.dose_verdict import CAVEAT, DoseVerdict, Placed, judge, times
from difference_feedback.report.page_size import scaled
from difference_feedback.report.repair_figures import UNCLEAN, repair_figures, reviews_of, who_knows
from difference_feedback.runs.check_repair import cost_of_run
from difference_feedback.runs.folder import Run
from difference_feedback.runs.jsonl import read_rows
from difference_feedback.runs.outputs import write_atomically
from difference_feedback.runs.repair_check import RepairCheckRecipe
from difference_feedback.runs.terminal import printable

PAGE = "repair_check.html"
SHOWN = 4
"""Examples of each kind on the page."""
LARGEST_OVERHEAD = 3.0
"""A gain that outlasts more than this needs no mention: repairs make no step so dear."""


def finish_check(recipe: RepairCheckRecipe, run: Run) -> dict[str, Any]:
    """Write summary.json and the page from the rows of a measured run, and return the summary.

    People may review its audits.jsonl afterwards: another call takes what they say into account.
    """
    rows = read_rows(run.folder / "repairs.jsonl")
    metrics = run.metrics()
    rounds = [row for row in metrics if row.get("kind") == "round"]
    reviews = reviews_of(run.folder)
    figures = repair_figures(rows, rounds, reviews)
    cost = step_cost(recipe, figures)
    dose, model = load_dose(), placed(recipe, figures, cost)
    verdict = judge(dose, model)
    left_out = [text for row in metrics for text in row.get("left_out") or ()]
    summary = {
        "repair_model": model.name,
        "policy": recipe.policy,
        "num_repairs": recipe.num_repairs,
        **figures,
        "step": cost,
        "verdict": verdict.kind,
        "sentence": verdict.sentence,
        "gain": verdict.gain and verdict.gain.__dict__,
        "gain_if_none_clean": verdict.ends and verdict.ends[0].__dict__,
        "gain_if_all_clean": verdict.ends and verdict.ends[1].__dict__,
        "affordable_overhead": _affordable(dose, model),
        "notes": [
            *verdict.notes,
            *_unknown_clean(run, figures),
            *_both_judged(figures, rows, reviews),
            *_unknown_cost(recipe, figures),
            *_refusals(recipe, figures),
            *_audit_outages(recipe, rows),
        ],
        "unusable_rows": left_out,
    }
    write_page(run.folder / PAGE, summary, rows, dose, model, verdict)
    run.finish(summary)
    return summary


def step_cost(recipe: RepairCheckRecipe, figures: Mapping[str, Any]) -> dict[str, Any] | None:
    """The terms of Eq. 29 for one sampled answer, on the clock that run and check share; None where one is missing.

    `overhead` is `p_err K C_repair / C_base`: how much more a step costs than GRPO's.
    """
    seconds, base, p_err, clock = figures["seconds"], recipe.base_seconds, recipe.p_err, "wall"
    if recipe.run is not None:
        terms = cost_of_run(recipe)
        if _other_device(recipe, terms, seconds):
            return None
        clock = next((c for c in ("gpu", "cpu", "wall") if c in terms and c in seconds), "")
        if recipe.repairs.via != "local" and "wall" in terms and clock != "gpu":
            clock = "wall"  # the server's processor time is not this process's
        if clock:
            base = terms[clock]["base"] / terms[clock]["answers"]
            p_err = terms[clock]["p_err"] if p_err is None else p_err
    if p_err is None and figures["p_err"] is not None:
        p_err = figures["p_err"]["share"]
    if base is None or p_err is None or clock not in seconds:
        return None
    repair = seconds[clock]["mean"]
    overhead = p_err * recipe.num_repairs * repair / base
    return {"clock": clock, "base": base, "p_err": p_err, "repair": repair, "overhead": overhead}


def _other_device(recipe: RepairCheckRecipe, terms: Mapping[str, Any], seconds: Mapping[str, Any]) -> bool:
    """Whether the run was billed in GPU seconds, and the repair model ran on this machine's processor."""
    return recipe.repairs.via == "local" and "gpu" in terms and "gpu" not in seconds


def placed(recipe: RepairCheckRecipe, figures: Mapping[str, Any], cost: Mapping[str, Any] | None) -> Placed:
    """The model's place on the chart: wrong answers with a chosen repair, and the clean ones among these repairs."""
    name = recipe.repairs.endpoint.model if recipe.repairs.endpoint else str(recipe.repair_model)
    usable, clean, overhead = figures["usable"], figures["clean_chosen"], cost["overhead"] if cost else None
    if not usable["count"]:  # then nothing depends on it
        return Placed(name, _measured(usable), MeasuredShare(0.0, 0.0, 1.0), overhead)
    known = clean is not None and clean["share"] is not None
    return Placed(name, _measured(usable), _measured(clean) if known else None, overhead)


def show_check(summary: Mapping[str, Any], console: Console) -> None:
    """Print the figures as a table, then the sentence and what it rests on."""
    table = Table(
        title=Text(printable(f"{summary['repair_model']} on wrong answers of {summary['policy']}")),
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for column in ("", "measured", "95 % interval", "of"):
        table.add_column(column, justify="left" if not column else "right")
    for name, value, interval, of in figure_rows(summary):
        table.add_row(name, value, interval, of)
    console.print(table)
    for note in [*summary["notes"], CAVEAT]:
        console.print(note, markup=False, highlight=False, style="dim")
    console.print(summary["sentence"], markup=False, highlight=False, style="bold")


def figure_rows(summary: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Name, value, interval and count of each figure, as table and page show them."""
    k = summary["num_repairs"]
    by = {"truth": " (truth known)", "people": " (by people)", "auditor": " (by the auditor)", None: ""}[
        summary["clean_by"]
    ]
    rows = [
        _of_share("right repairs", summary["right"]),
        _of_share(f"wrong answers repaired (K = {k})", summary["usable"]),
        _of_share(f"clean among right{by}", summary["clean"]),
        _of_share("clean among chosen", summary["clean_chosen"]),
    ]
    if cost := summary["edit_cost"]:
        low, middle, high = cost["quartiles"]
        interval = _range(cost["interval"], "{:.3f}")
        rows.append(("edit cost", f"{cost['mean']:.3f}", interval, str(cost["of"])))
        rows.append(("  its quartiles", f"{low:.2f}, {middle:.2f}, {high:.2f}", "", ""))
    rows += [
        _of_share("unedited", summary["unedited"]),
        _of_share("copies of the reference", summary["copied"]),
    ]
    if blank := summary["without_image"]:
        rows.append(_of_share("right without the image", blank["without"]))
        fall = f"{100 * blank['fall']:.1f} points"
        rows.append(("  it falls by", fall, _range(blank["interval"], "{:.1f}", 100), ""))
    for clock, of in summary["seconds"].items():
        interval = _range(of["interval"], "{:.4f}")
        rows.append((f"{clock} seconds of a repair", f"{of['mean']:.4f}", interval, str(of["of"])))
    if step := summary["step"]:
        rows.append(("a step costs", times(step["overhead"]), "", ""))
    elif summary["affordable_overhead"] is not None:
        rows.append(("the gain is gone where a step costs", times(summary["affordable_overhead"]), "", ""))
    for reason, count in summary["refused"].items():
        rows.append((_REFUSED.get(reason, f"refused: {reason.replace('_', ' ')}"), str(count), "", ""))
    if summary["unjudged"]:
        rows.append(("not judged", str(summary["unjudged"]), "", ""))
    if summary["unusable_rows"]:
        rows.append(("rows that cannot be used", str(len(summary["unusable_rows"])), "", ""))
    return rows


_REFUSED = {"missing": "wrong answers without a repair", "failed": "failed requests, not counted"}


def write_page(
    path: Path,
    summary: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    dose: Dose,
    model: Placed,
    verdict: DoseVerdict,
) -> None:
    """One self-contained page. It loads nothing, and every text from data is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = files("difference_feedback.report").joinpath("repair_check.html.j2").read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        summary=summary,
        verdict=verdict,
        figures=figure_rows(summary),
        chart=Markup(dose_chart(dose, model)),
        groups=[
            (title, [_example(row, path.parent) for row in of[:SHOWN]], len(of))
            for title, of in _kinds(rows, reviews_of(path.parent))
            if of
        ],
        caveat=CAVEAT,
        version=__version__,
    )
    write_atomically(path, page)


def _kinds(rows: Sequence[Mapping[str, Any]], reviews: Mapping[str, bool]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """The repairs by what they show, each of another question first."""
    source, is_clean = who_knows(rows, reviews)
    titles = {
        True: "Right and clean",
        False: "Right, but not clean",
        None: f"Right; {'people have not' if source == 'people' else 'nobody has'} said whether it is clean",
    }
    kinds: dict[str, list[Mapping[str, Any]]] = {title: [] for title in [*titles.values(), "Wrong"]}
    again: dict[str, list[Mapping[str, Any]]] = {title: [] for title in kinds}
    seen: set[tuple[str, str]] = set()
    for row in rows:
        if row["repair"] is None or row["right"] is None:
            continue
        title = titles[is_clean(row)] if row["right"] else "Wrong"
        (again if (title, row["question_id"]) in seen else kinds)[title].append(row)
        seen.add((title, row["question_id"]))
    return [(title, of + again[title]) for title, of in kinds.items()]


def _example(row: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A row as drawn: its images, and both texts in words, each with whether it takes part in an edit."""
    images = []
    for name in row["image"]:
        path = folder / name
        if path.is_file():
            images.append(scaled(data_url(path.read_bytes())))
    draft, repair = changed_words(row["draft"], row["repair"])
    sides = [
        ("wrong answer", list(zip(row["draft"].split(), draft.tolist(), strict=True))),
        ("repair", list(zip(row["repair"].split(), repair.tolist(), strict=True))),
    ]
    return {"row": row, "images": images, "sides": sides}


def _measured(share: Mapping[str, Any]) -> MeasuredShare:
    low, high = share["interval"]
    return MeasuredShare(share["share"] or 0.0, low, high)


def _affordable(dose: Dose, model: Placed) -> float | None:
    if model.clean is None:
        return None
    most = dose.affordable(model.right.value, model.clean.value)
    return most if 0 < most <= LARGEST_OVERHEAD else None


def _unknown_clean(run: Run, figures: Mapping[str, Any]) -> list[str]:
    """How to learn which of the repairs that training would choose are clean."""
    if not figures["usable"]["count"] or (figures["clean_chosen"] or {}).get("share") is not None:
        return []
    return [
        f"Nobody has said which chosen repairs are clean. Run `difference-feedback annotate {run.folder}`, say it of "
        f"{'more' if figures['clean_by'] else 'some'}, and give the same command again; or let an auditor say it: "
        "audit.auditor=endpoint and audit.endpoint."
    ]


def _both_judged(
    figures: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], reviews: Mapping[str, bool]
) -> list[str]:
    """How far people agree with the auditor, whose verdicts do not count where people's do."""
    audited = [row for row in rows if row["right"] and row.get("verdict")]
    if figures["clean_by"] != "people" or not audited:
        return []
    both = [reviews[row["audit"]] == (row["verdict"] != UNCLEAN) for row in audited if row["audit"] in reviews]
    return [
        f"People said of {figures['clean']['of']} right repairs whether they are clean, and they alone count. The "
        f"auditor judged {len(audited)}; of {len(both)} that both judged, it says the same of {sum(both)}."
    ]


def _unknown_cost(recipe: RepairCheckRecipe, figures: Mapping[str, Any]) -> list[str]:
    """Why the costs of a run say nothing here."""
    if recipe.run is None or not _other_device(recipe, cost_of_run(recipe), figures["seconds"]):
        return []
    return [
        f"{recipe.run} was billed in GPU seconds, and the repair model ran on a processor here: measure it on the "
        "training's kind of device, or give base_seconds and p_err."
    ]


def _refusals(recipe: RepairCheckRecipe, figures: Mapping[str, Any]) -> list[str]:
    """What to do where many repairs are too long: the limit may be that of another policy."""
    count, repairs = figures["refused"].get("too_long", 0), figures["repairs"]
    if 10 * count < repairs or not count:
        return []
    return [
        f"{count} of {repairs} repairs are longer than {recipe.longest} tokens of {recipe.policy}, and "
        "count as not right, as in training: are policy and sampling.max_new_tokens those of your training?"
    ]


def _audit_outages(recipe: RepairCheckRecipe, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """How many repairs the auditor was asked about in vain, and why the first of them."""
    audit = recipe.audit
    audited = [row for row in rows if row.get("audit")] if audit and audit.enabled and audit.endpoint else []
    silent = [row for row in audited if row["verdict"] is None]
    if not silent:
        return []
    return [f"The auditor gave no verdict on {len(silent)} of {len(audited)} repairs ({silent[0]['reason']})."]


def _of_share(name: str, share: Mapping[str, Any] | None) -> tuple[str, str, str, str]:
    if share is None or share["share"] is None:
        return name, "not known", "", ""
    return (
        name,
        _percent(share["share"]),
        _range(share["interval"], "{:.0f} %", 100),
        f"{share['count']} of {share['of']}",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _range(interval: Sequence[float] | None, form: str, scale: float = 1) -> str:
    if interval is None:
        return ""
    low, high = (form.format(scale * bound).replace("-", "−") for bound in interval)
    return f"{low.removesuffix(' %')} to {high}"
