"""No word, however long, makes a page wider than its window."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from difference_feedback.report.collect import load_report
from difference_feedback.report.data import BenchmarkScore, Curve, ReportData
from difference_feedback.report.data_check import write_check_page
from difference_feedback.report.mask_file import MaskTotals, PairTotals
from difference_feedback.report.mask_page import write_mask_page
from difference_feedback.report.mask_pairs import Pair, mask_pair
from difference_feedback.report.page import write_page
from difference_feedback.runs.jsonl import RowProblem

pytest.importorskip("selenium", reason="left out: widths of pages (selenium is not installed)")
pytestmark = pytest.mark.browser

WORD = "W" * 20_000


def wide_report(demo_folder: Path) -> ReportData:
    """The demo's report with the word in the place of each text, also as the name of the second of two runs."""
    data = load_report([demo_folder])
    data.title = WORD
    example = data.examples[0]
    example.id = example.task = example.question = example.answer = example.reference = WORD
    for side in (example.wrong, example.repair):
        side.tokens[:2] = [WORD, f" {WORD}"]
    first, second = data.methods
    data.methods = {first: data.methods[first], WORD: data.methods[second]}
    data.methods[first].tasks[WORD] = 0.5
    data.curves = [Curve(name=WORD, points=curve.points) for curve in data.curves]
    data.rewards = {WORD: [(1, 0.5), (2, 0.6)]}
    data.notes, data.configs, data.versions = [WORD], {WORD: f"model: {WORD}"}, {WORD: WORD}
    assert data.repair
    data.repair.stages[0].name = WORD
    data.costs = {WORD: next(iter(data.costs.values()))}
    score = BenchmarkScore(task=WORD, model=WORD, problems=9, score=0.5, rule=WORD)
    data.benchmarks = {WORD: [score, score.model_copy(update={"task": "other"})]}
    return data


def write_report(path: Path, demo_folder: Path) -> None:
    write_page(wide_report(demo_folder), demo_folder, path)


def write_masks(path: Path, _: Path) -> None:
    pair = Pair(1, WORD, f"{WORD} {WORD}", f"a {WORD} b", question=WORD)
    totals = MaskTotals()
    masked = mask_pair(pair)
    totals.add(PairTotals.of(masked))
    write_mask_page(path, [masked], totals, WORD)


def write_check(path: Path, _: Path) -> None:
    question = SimpleNamespace(
        id=WORD, question=f"<image> {WORD}", images=[Image.new("RGB", (300, 20))], system=WORD, answer=WORD, options=()
    )
    layout = SimpleNamespace(form=SimpleNamespace(name=WORD), why=WORD)
    loaded = SimpleNamespace(layout=layout, dataset=[1], problems=[1])
    reasons = [(WORD, [RowProblem(line, None, WORD) for line in range(3)])]
    check: Any = SimpleNamespace(
        path=WORD[:200], loaded=loaded, reasons=reasons, damage=[WORD], shown=[question], lengths=None
    )
    write_check_page(path, check)


@pytest.mark.parametrize("write", [write_report, write_masks, write_check])
def test_a_page_is_as_wide_as_its_window(
    browser: Any, tmp_path: Path, demo_folder: Path, write: Callable[[Path, Path], None]
) -> None:
    write(tmp_path / "page.html", demo_folder)
    browser.get((tmp_path / "page.html").as_uri())
    try:
        for width in (360, 1280):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            shown = browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
            assert shown[0] == width
            assert shown[1] <= width + 1
            boxes = "return Math.max(...[...document.querySelectorAll('.wide')].map((e) => e.scrollWidth), 0)"
            assert browser.execute_script(boxes) < 3000  # a table may scroll in its own box, but not without end
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
