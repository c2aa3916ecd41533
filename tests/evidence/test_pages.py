"""The pages say what the kept results say: sentences, tables, plots; with all results, some of them, and none."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

import pytest
from synthetic import FAIR, kept_with, row, rows_of_plans

import build
from context import PAGES, dose_values, filled
from difference_feedback.bench.results import load_results
from difference_feedback.report.dose import SHIPPED
from difference_feedback.runs.jsonl import JsonLines
from study import Kept, Study, to_json
from tables import cost_table, demo_table, mask_table, task_table

FULL = Study("bench_full", Kept().rows("bench_full"), partial=True)
BY_HAND = re.compile(
    r"\{\{.*?\}\}|\{%.*?%\}|`[^`]*`|\]\([^)]*\)|arXiv \d+\.\d+|\bEqs?\. \d+(-\d+)?|95 % interval|\bF1\b|[Ss]tage \d\b"
    r"|Acc@\d|weights 1\b|advantage is 0\b|(?:falls?|excludes|includes) (?:to )?0\b|every ratio is 1\b|^ *\d+\. ",
    re.DOTALL | re.MULTILINE,
)
"""What may have a digit in a template: expressions, code, links, names, and the numbers 0 and 1 of definitions."""


def fair_rows(seconds: float, seeds: int) -> list[dict]:
    return [row(name, seed, seconds) for seed in range(seeds) for name in FAIR if name != "base" or seed == 0]


class Made(NamedTuple):
    """All that is made from one set of results, named by what of it is finished."""

    name: str
    pages: dict[str, str]
    plots: dict[str, str]
    found: str


@pytest.fixture(params=["all", "short", "none"], scope="module")
def made(request, tmp_path_factory) -> Made:
    plans = {
        "all": {"bench_fair": fair_rows(120, 5), "bench_fair_long": fair_rows(600, 5)} | rows_of_plans(),
        "short": {"bench_fair": fair_rows(120, 5), "bench_fair_long": fair_rows(600, 2)},
        "none": {},
    }
    kept = kept_with(tmp_path_factory.mktemp("results"), plans[request.param])
    return Made(request.param, build.pages(kept), build.plots(kept), build.render("found.md", build.context(kept)))


def row_of(table: str, label: str) -> list[str]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return next(line for line in lines if line[0] == label)


def test_the_first_page_is_short_and_says_what_is_not_finished(made: Made) -> None:
    name, page = made.name, made.pages["index.md"]
    assert len(page.splitlines()) <= 100
    assert page.count("![") == len(re.findall(r"^\|---", page, re.MULTILINE)) == (name != "none")
    unfinished = [plan for plan in ("bench_fair", "bench_fair_long") if f"`difference-feedback bench {plan}`" in page]
    assert unfinished == {"all": [], "short": ["bench_fair_long"], "none": ["bench_fair", "bench_fair_long"]}[name]
    assert ("2 of 5 seeds" in page) == (name == "short")
    assert ("after 600 s" in page) == (name == "all"), "an unfinished plan shows nothing but its state"


def test_all_pages_are_made_whatever_is_finished(made: Made) -> None:
    shown = {image for page in made.pages.values() for image in re.findall(r"images/([\w.]+)\)", page)}
    assert shown == set(made.plots) - {"hosts.svg"}
    for page in [*made.pages.values(), made.found]:
        assert not re.search(r"\bNone\b|\bnan\b|\{\{|\{%|-0\.0\b|\n\n\n", page), re.search(r".*\bNone\b.*", page)
        tables = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
        assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in tables)
    for svg in made.plots.values():
        assert ET.fromstring(svg).tag.endswith("svg")
        assert "nan" not in svg
    assert ("evidence_fair_long.svg" in made.plots) == (made.name == "all")


def test_only_methods_with_all_seeds_stand_in_the_table(tmp_path) -> None:
    rows = [each for each in fair_rows(120, 5) if (each["method"], each["seed"]) != ("df_gspo", 3)]
    page = build.render("index.md", build.context(kept_with(tmp_path, {"bench_fair": rows})))
    assert "| DF-GRPO |" in page
    assert "DF-GSPO" not in page.replace("The baseline is GSPO for DF-GSPO", "")
    assert "4 of 5 seeds" in page


def test_no_figure_stands_in_a_template_by_hand() -> None:
    for path in PAGES.glob("*.md"):
        left = BY_HAND.sub("", path.read_text(encoding="utf-8"))
        assert not re.search(r".*\d.*", left), f"{path.name}: {re.search(r'.*[0-9].*', left)[0]}"


def test_tables_hold_the_figures_of_the_study() -> None:
    figures = FULL.figures["df_grpo"]
    chart = [each["by_task"]["chart"] for each in FULL.of("df_grpo")]
    assert row_of(task_table(FULL), "DF-GRPO")[1] == f"{100 * sum(chart) / len(chart):.1f}"
    assert row_of(mask_table(FULL), "DF-GRPO")[3] == f"{figures['masks']['all']['f1']:.2f}"
    assert row_of(cost_table(FULL), "DF-GRPO")[6] == f"{figures['cost']['predicted']:.3f} s"


def test_the_demo_s_table_is_of_means_ranges_and_margins_by_hand() -> None:
    def row(method: str, seed: int, accuracy: float, setup: float = 0.0) -> dict:
        figures = {"accuracy": accuracy, "cpu_seconds": 240.0, "setup_cpu_seconds": setup, "problems": 300}
        return {"method": method, "label": method.upper(), "seed": seed, **figures}

    rows = [row("grpo", 0, 0.6), row("grpo", 1, 0.7), row("df_grpo", 0, 0.65, 61), row("df_grpo", 1, 0.6, 59)]
    text = demo_table([*rows, row("oracle", 0, 0.8), row("oracle", 1, 0.8)], 1000, 0.933)
    assert row_of(text, "GRPO")[1:3] == ["65.0 % (60.0 – 70.0)", "240"]
    assert row_of(text, "DF_GRPO")[2] == "240, 60 of them for the repair model"
    assert "DF-GRPO minus GRPO: +5.0, -10.0 points" in text


def test_paragraphs_are_filled_and_tables_are_not() -> None:
    text = "- a\n  b\n1. " + "word " * 40 + "\n\n| a | b |\n|---|---|\n\n# A  title"
    assert filled(text).startswith("- a b\n1. word word")
    assert filled(text).endswith("\n\n| a | b |\n|---|---|\n\n# A  title")
    assert max(map(len, filled(text).splitlines())) <= 128
    assert filled(text).split() == text.split()
    assert filled(filled(text)) == filled(text)


def test_the_pages_are_what_the_results_say() -> None:
    pages = build.pages(Kept())
    assert {path.name for path in build.EVIDENCE.glob("*.md")} == set(pages)
    for name, page in pages.items():
        assert (build.EVIDENCE / name).read_text(encoding="utf-8") == page, f"{name}: run python evidence/build.py"


def test_every_generated_block_is_on_a_page_and_is_what_the_results_say() -> None:
    texts = build.blocks(Kept())
    shown = set()
    for page in build.pages_with_blocks():
        for name, text in build.generated(page.read_text(encoding="utf-8")).items():
            assert text == build.seen_from(page, texts)[name], f"{page.name}, {name}: run python evidence/build.py"
            shown.add(name)
    assert shown == set(texts)


def test_every_plot_is_what_the_results_say() -> None:
    plots = build.plots(Kept())
    assert {path.name for path in build.IMAGES.glob("evidence_*.svg")} <= set(plots)
    for name, svg in plots.items():
        assert (build.IMAGES / name).read_text(encoding="utf-8") == svg, f"{name}: run python evidence/build.py"
    assert to_json(dose_values(Kept())) == SHIPPED.read_text(encoding="utf-8")


def test_a_page_made_anew_changes_between_its_marks_alone() -> None:
    page = (build.DOCS / "quickstart.md").read_text(encoding="utf-8")
    texts = build.generated(page)
    changed = build.with_blocks(page, texts | {"demo": "new figures"})
    assert build.generated(changed) == texts | {"demo": "new figures"}
    assert build.with_blocks(changed, texts) == page


def test_results_are_added_by_hash_or_take_the_kept_ones_place(tmp_path: Path) -> None:
    for folder, rows in (("first", [("a", 1)]), ("second", [("a", 2), ("b", 3)])):
        (tmp_path / folder).mkdir()
        for name, value in rows:
            JsonLines(tmp_path / folder / "results.jsonl").append({"hash": name, "x": value})
    for folder, anew, expected in (("second", False, [2, 3]), ("first", False, [1, 3]), ("first", True, [1])):
        build.keep(tmp_path / folder, "plan", anew, tmp_path)
        assert [row["x"] for row in load_results(tmp_path / "plan.jsonl")] == expected


def test_a_cell_that_its_plan_no_longer_has_is_dropped(tmp_path: Path) -> None:
    kept = Kept().rows("bench_dose")
    stale = kept[1] | {"hash": "of-before", "accuracy": 0.1}
    for folder, rows in ((tmp_path, [*kept[:2], stale]), (tmp_path / "run", kept[2:3])):
        name = "results.jsonl" if folder != tmp_path else "bench_dose.jsonl"
        JsonLines(folder / name).append(*rows)
    build.keep(tmp_path / "run", "bench_dose", anew=False, results=tmp_path)
    hashes = [row["hash"] for row in load_results(tmp_path / "bench_dose.jsonl")]
    assert sorted(hashes) == sorted(row["hash"] for row in kept[:3])
