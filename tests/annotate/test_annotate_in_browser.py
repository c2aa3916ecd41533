"""The annotation page in a real headless Chromium."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("selenium", reason="left out: the annotation page in a browser (selenium is not installed)")
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from difference_feedback.annotate.serve import serve
from difference_feedback.judges.audit import AuditCase, AuditResult
from difference_feedback.judges.audit_log import AuditLog
from difference_feedback.runs.jsonl import read_rows

pytestmark = pytest.mark.browser
TAKE = "document.title='taken'"
HOSTILE = f'<script>{TAKE}</script> <img src=x onerror="{TAKE}"> ${{{TAKE}}} {{{{7*7}}}}'
EDITOR = "#editor textarea"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run with three answers to repair, the last one hostile, and two audits to review."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30), "red").save(tmp_path / "images" / "a.png")
    drafts = ["I see 1 . answer 1", "I see 2 . answer 2", f"{HOSTILE} answer 3"]
    common = {
        "question": f"How many? {HOSTILE}",
        "image": ["images/a.png"],
        "reference": "answer 9",
        "rule": "embedded",
    }
    rows = [{"id": str(i), "draft": draft, "answer": "9"} | common for i, draft in enumerate(drafts)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cases = [AuditCase("?", (), f"draft {i}", f"repair {i} {HOSTILE}", "ref") for i in range(2)]
    AuditLog(tmp_path).write(0, "secretive-auditor", cases, [AuditResult("unseen_evidence", "hidden words", "why")] * 2)
    return tmp_path


@pytest.fixture
def opened(browser: Any, folder: Path) -> Iterator[Callable[..., Any]]:
    pages = []

    def open_page(annotator: str = "ada", **options: Any) -> Any:
        pages.append(serve(folder, port=0, annotator=annotator, block=False, **options))
        browser.get(pages[-1].local_url)
        until(browser, lambda: browser.find_element(By.CSS_SELECTOR, EDITOR).get_attribute("value"))
        return browser

    yield open_page
    for page in pages:
        page.close(verbose=False)


def until(browser: Any, condition: Callable[[], Any]) -> Any:
    def met(_: Any) -> Any:
        return condition()

    return WebDriverWait(browser, 20, 0.1, ignored_exceptions=(Exception,)).until(met)


def text_of(browser: Any, name: str) -> str:
    return browser.find_element(By.ID, name).text


def edit(browser: Any, text: str) -> None:
    editor = browser.find_element(By.CSS_SELECTOR, EDITOR)
    editor.send_keys(Keys.CONTROL, "a")
    editor.send_keys(text)


def value(browser: Any) -> str:
    return browser.find_element(By.CSS_SELECTOR, EDITOR).get_attribute("value")


def test_a_repair_is_seen_while_typing_saved_by_keyboard_and_there_after_a_reload(
    opened: Callable[..., Any], folder: Path
) -> None:
    page = opened()
    assert value(page) == "I see 1 . answer 1"
    assert "0 of 3 done" in text_of(page, "progress")
    edit(page, "I see 9 . answer 9")
    until(page, lambda: "right" in text_of(page, "feedback"))
    assert "2 edits, edit cost 0.333" in text_of(page, "feedback")
    assert [m.text for m in page.find_elements(By.CSS_SELECTOR, "#feedback .repair mark.edit")] == ["9", "9"]
    page.find_element(By.CSS_SELECTOR, EDITOR).send_keys(Keys.CONTROL, Keys.ENTER)
    until(page, lambda: value(page) == "I see 2 . answer 2")
    [row] = read_rows(folder / "items.annotated.jsonl")
    assert (row["id"], row["repaired"], row["annotator"]) == ("0", "I see 9 . answer 9", "ada")
    page.refresh()
    until(page, lambda: value(page) == "I see 2 . answer 2")
    assert "1 of 3 done" in text_of(page, "progress")
    ActionChains(page).key_down(Keys.ALT).send_keys("b").key_up(Keys.ALT).perform()
    until(page, lambda: value(page) == "I see 9 . answer 9")


def test_skipping_and_hostile_data_and_a_second_annotator(opened: Callable[..., Any], folder: Path) -> None:
    page = opened()
    for _ in range(2):
        before = value(page)
        page.find_element(By.ID, "skip").click()
        until(page, lambda before=before: value(page) != before)
    assert value(page).startswith("<script>")
    edit(page, f"{HOSTILE} answer 9")
    until(page, lambda: "right" in text_of(page, "feedback"))
    assert "onerror" in text_of(page, "feedback")
    assert "{{7*7}}" in text_of(page, "question")
    assert "taken" not in page.title
    page.find_element(By.ID, "save").click()
    until(page, lambda: "All items are done" in text_of(page, "message"))
    page = opened("bob")  # the two that ada skipped are bob's to repair, if she does not have them open
    assert "1 of 3 done" in text_of(page, "progress")
    assert "bob" in text_of(page, "progress")


def press(page: Any, letter: str) -> None:
    ActionChains(page).key_down(Keys.ALT).send_keys(letter).key_up(Keys.ALT).perform()


def test_a_drafted_repair_is_marked_accepted_corrected_or_put_aside(opened: Callable[..., Any], folder: Path) -> None:
    answers = {"0": "I see 9 . answer 9", "1": "I see 2 . answer 9", "2": "I see 4 . answer 4"}
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    drafts = [
        {"id": row["id"], "draft": row["draft"], "drafted": answers[row["id"]], "drafted_by": f"<b>m{row['id']}"}
        | {"asked": "m"}
        for row in rows
    ]
    (folder / "items.drafted.jsonl").write_text("".join(json.dumps(row) + "\n" for row in drafts))
    page = opened()
    assert value(page) == answers["0"]
    assert "Drafted by <b>m0; no person has checked it. ✓ right" in text_of(page, "offer")
    assert "the drafted repair, unchanged" in text_of(page, "feedback")
    assert [m.text for m in page.find_elements(By.CSS_SELECTOR, "#feedback .repair mark.edit")] == ["9", "9"]
    press(page, "a")
    until(page, lambda: value(page) == answers["1"])
    press(page, "w")
    until(page, lambda: value(page) == "I see 2 . answer 2")
    edit(page, "I see 9 . answer 9")
    until(page, lambda: "1 edits from the drafted repair" in text_of(page, "feedback"))
    press(page, "a")
    until(page, lambda: "You have changed the text" in text_of(page, "message"))
    page.find_element(By.CSS_SELECTOR, EDITOR).send_keys(Keys.CONTROL, Keys.ENTER)
    until(page, lambda: value(page) == answers["2"])
    assert "✗ wrong" in text_of(page, "offer")
    press(page, "a")
    until(page, lambda: "The grader calls this repair wrong" in text_of(page, "message"))
    assert len(read_rows(folder / "items.annotated.jsonl")) == 2
    press(page, "a")
    until(page, lambda: "which the grader calls wrong" in text_of(page, "message"))
    saved = read_rows(folder / "items.annotated.jsonl")
    assert [row["drafted_by"] for row in saved] == ["<b>m0", "<b>m1", "<b>m2"]
    assert [row["changed"] for row in saved] == [False, True, False]
    assert "people changed 0 of 1 repairs" in text_of(page, "corrections")


def test_a_drafted_repair_that_comes_late_is_offered_and_takes_no_text_away(
    opened: Callable[..., Any], folder: Path
) -> None:
    page = opened(draft_from=["sibling"])
    until(page, lambda: "Drafted by sibling" in text_of(page, "offer"))
    if value(page) == "I see 1 . answer 1":  # it came after the page: the editor was left as it was
        press(page, "d")
    until(page, lambda: value(page) == "answer 9")
    press(page, "s")
    until(page, lambda: "Skipped 0" in text_of(page, "message"))


def test_an_unreadable_image_holds_up_no_other_item(opened: Callable[..., Any], folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    rows[1]["image"] = ["images/b.png"]
    (folder / "images" / "b.png").write_bytes(b"not a picture")
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = opened()
    edit(page, "I see 9 . answer 9")
    page.find_element(By.ID, "save").click()
    until(page, lambda: value(page) == "I see 2 . answer 2")
    assert "images/b.png cannot be shown" in text_of(page, "images")
    page.find_element(By.ID, "skip").click()
    until(page, lambda: value(page).startswith("<script>"))
    assert [row["id"] for row in read_rows(folder / "items.skipped.jsonl")] == ["1"]


def test_a_review_is_blind_until_it_is_saved(opened: Callable[..., Any], folder: Path) -> None:
    page = opened()
    page.find_elements(By.CSS_SELECTOR, "button[role=tab]")[1].click()
    until(page, lambda: "draft 0" in text_of(page, "review-pair"))
    for secret in ("secretive-auditor", "hidden words"):
        assert secret not in page.page_source
    assert "after the first review" in text_of(page, "agreement")
    page.find_element(By.CSS_SELECTOR, "body").send_keys("2")
    until(page, lambda: page.find_elements(By.CSS_SELECTOR, "#verdict input")[1].is_selected())
    page.find_element(By.ID, "review-save").click()
    until(page, lambda: "Agreement with the auditor on 1 reviews: 100%" in text_of(page, "agreement"))
    [row] = read_rows(folder / "reviews.jsonl")
    assert (row["verdict"], row["annotator"]) == ("unseen_evidence", "ada")
    assert "taken" not in page.title


def test_no_word_makes_the_page_wider_than_its_window(opened: Callable[..., Any], folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    word = "W" * 20_000
    changes = {"id": "W" * 900, "question": word, "draft": f"{word} {word}", "reference": word, "answer": word}
    (folder / "items.jsonl").write_text(json.dumps(rows[0] | changes) + "\n")
    page = opened()
    try:
        for width in (360, 1280):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            until(page, lambda width=width: page.execute_script("return innerWidth") == width)
            assert page.execute_script("return document.documentElement.scrollWidth") <= width + 1
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
