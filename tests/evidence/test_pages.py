"""The pages say what the kept results say: tables, sentences, plots."""

import xml.etree.ElementTree as ET

import pytest

import build
from comparison import compare
from difference_feedback.bench.results import load_results
from difference_feedback.runs.jsonl import JsonLines
from plots import compute_plot, forest_plot, mask_plot
from tables import cost_table, demo_table, mask_table, stability_table, task_table

ROWS = [row for row in load_results(build.RESULTS / "bench_full.jsonl") if not row["settings"]]
FULL = compare(ROWS, "bench_full")


def row_of(table: str, label: str) -> list[str]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return next(line for line in lines if line[0] == label)


@pytest.mark.parametrize("table", [task_table, mask_table, stability_table, cost_table])
def test_tables_are_as_wide_in_every_row(table) -> None:
    lines = table(FULL).splitlines()
    assert len(lines) > 10
    assert len({line.count("|") for line in lines}) == 1


def test_tables_hold_the_figures_of_the_comparison() -> None:
    method = FULL["methods"]["df_grpo"]
    assert row_of(task_table(FULL), "DF-GRPO")[1] == f"{100 * method['by_task']['chart']['mean']:.1f}"
    assert row_of(mask_table(FULL), "DF-GRPO")[3] == f"{method['masks']['all']['f1']:.2f}"
    assert row_of(cost_table(FULL), "DF-GRPO")[6] == f"{method['cost']['predicted']:.3f} s"
    assert row_of(stability_table(FULL), "DF-GRPO")[2] == "0 of 5"


def test_the_demo_s_table_is_of_means_ranges_and_margins_by_hand() -> None:
    def row(method: str, seed: int, accuracy: float, setup: float = 0.0) -> dict:
        figures = {"accuracy": accuracy, "cpu_seconds": 240.0, "setup_cpu_seconds": setup, "problems": 300}
        return {"method": method, "label": method.upper(), "seed": seed, **figures}

    rows = [row("grpo", 0, 0.6), row("grpo", 1, 0.7), row("df_grpo", 0, 0.65, 61), row("df_grpo", 1, 0.6, 59)]
    text = demo_table([*rows, row("oracle", 0, 0.8), row("oracle", 1, 0.8)], 1000, 0.933)
    assert row_of(text, "GRPO")[1:3] == ["65.0 % (60.0 – 70.0)", "240"]
    assert row_of(text, "DF_GRPO")[2] == "240, 60 of them for the repair model"
    assert "DF-GRPO minus GRPO: +5.0, -10.0 points" in text


def test_plots_are_well_formed_and_show_their_labels() -> None:
    for svg, label in (
        (compute_plot(ROWS, ["grpo", "df_grpo", "absent"]), "DF-GRPO"),
        (forest_plot(FULL), "DF-GRPO minus GRPO"),
        (mask_plot(FULL), "DF-GRPO"),
        (forest_plot({"comparisons": []}), ""),
    ):
        root = ET.fromstring(svg)
        assert label in "|".join([*root.itertext(), ""])
        assert "nan" not in svg


def test_every_generated_block_is_on_a_page_and_is_what_the_results_say() -> None:
    texts = build.blocks()
    shown = set()
    for page in build.PAGES:
        for name, text in build.generated(page.read_text(encoding="utf-8")).items():
            assert text == texts[name], f"{page.name}, {name}: run python evidence/build.py"
            shown.add(name)
    assert shown == set(texts)


def test_every_plot_is_what_the_results_say() -> None:
    for name, svg in build.plots().items():
        assert (build.IMAGES / name).read_text(encoding="utf-8") == svg, f"{name}: run python evidence/build.py"


def test_a_page_made_anew_changes_between_its_markers_alone() -> None:
    page = (build.ROOT / "README.md").read_text(encoding="utf-8")
    texts = build.blocks()
    changed = build.with_blocks(page, texts | {"demo": "new figures"})
    assert build.generated(changed) == build.generated(page) | {"demo": "new figures"}
    assert build.with_blocks(changed, texts) == page


def test_results_are_added_by_hash_or_take_the_kept_ones_place(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(build, "RESULTS", tmp_path)
    for folder, rows in (("first", [("a", 1)]), ("second", [("a", 2), ("b", 3)])):
        (tmp_path / folder).mkdir()
        for name, value in rows:
            JsonLines(tmp_path / folder / "results.jsonl").append({"hash": name, "x": value})
    for folder, anew, expected in (("second", False, [2, 3]), ("first", False, [1, 3]), ("first", True, [1])):
        build.keep(tmp_path / folder, "plan", anew)
        assert [row["x"] for row in load_results(tmp_path / "plan.jsonl")] == expected
