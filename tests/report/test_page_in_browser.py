"""The page in a real headless Chromium: it renders without errors, moves by keyboard, and runs no foreign code."""

import json
from pathlib import Path

import pytest

from difference_feedback.report.page import write_report

pytest.importorskip("selenium", reason="left out: the report's page in a browser (selenium is not installed)")
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

pytestmark = pytest.mark.browser

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


def opened(browser: webdriver.Chrome, page: Path) -> webdriver.Chrome:
    browser.get(page.as_uri())
    return browser


def shown(browser: webdriver.Chrome) -> list[str]:
    return [
        a.get_attribute("id") for a in browser.find_elements(By.CSS_SELECTOR, "article.example") if a.is_displayed()
    ]


def test_it_renders_without_messages_on_the_console(browser: webdriver.Chrome, demo_folder: Path) -> None:
    opened(browser, write_report(demo_folder))
    assert browser.get_log("browser") == []
    assert browser.find_element(By.TAG_NAME, "h1").text == "demo"
    assert len(browser.find_elements(By.CSS_SELECTOR, "svg .curve")) == 2
    for element in browser.find_elements(By.CSS_SELECTOR, "svg .curve, svg line.level, table, .tile"):
        assert element.size["width"] > 50
    image = browser.find_element(By.CSS_SELECTOR, ".shown img")
    assert browser.execute_script("return arguments[0].complete && arguments[0].naturalWidth", image) > 0


def test_masks_errors_and_weighted_advantages_are_drawn(browser: webdriver.Chrome, demo_folder: Path) -> None:
    row = json.loads((demo_folder / "examples.jsonl").read_text().splitlines()[0])
    opened(browser, write_report(demo_folder))
    tokens = browser.find_elements(By.CSS_SELECTOR, "#example-1 .side.wrong .t")
    assert [t.get_attribute("textContent") for t in tokens] == row["wrong"]["tokens"]
    style = "const s = getComputedStyle(arguments[0], arguments[1]); return s[arguments[2]]"
    for token, marked, error, advantage in zip(
        tokens, row["wrong"]["mask"], row["wrong"]["errors"], row["wrong"]["advantages"], strict=True
    ):
        assert (browser.execute_script(style, token, None, "fontWeight") > "400") == marked
        assert ("underline" in browser.execute_script(style, token, None, "textDecorationLine")) == error
        bar = token.find_element(By.TAG_NAME, "i")
        assert (browser.execute_script(style, bar, "::after", "height") != "0px") == (advantage != 0)


def test_examples_are_browsed_by_keyboard_button_and_task(browser: webdriver.Chrome, demo_folder: Path) -> None:
    opened(browser, write_report(demo_folder))
    browser.execute_script("document.getElementById('examples').scrollIntoView()")
    body = browser.find_element(By.TAG_NAME, "body")
    assert shown(browser) == ["example-1"]
    body.send_keys(Keys.ARROW_RIGHT)
    assert shown(browser) == ["example-2"]
    browser.find_element(By.ID, "next").click()
    assert shown(browser) == ["example-3"]
    body.send_keys(Keys.END)
    assert shown(browser) == ["example-12"]
    body.send_keys(Keys.ARROW_RIGHT)
    assert shown(browser) == ["example-12"]
    Select(browser.find_element(By.ID, "task")).select_by_visible_text("count")
    assert shown(browser) == ["example-4"]
    assert browser.find_element(By.ID, "position").text == "1 of 2"


def test_hostile_text_stays_text(browser: webdriver.Chrome, demo_folder: Path) -> None:
    path = demo_folder / "examples.jsonl"
    row = json.loads(path.read_text().splitlines()[0])
    row["question"] = row["reference"] = row["answer"] = row["id"] = row["task"] = HOSTILE
    row["wrong"]["tokens"][0] = row["repair"]["tokens"][0] = HOSTILE
    path.write_text(json.dumps(row) + "\n")
    opened(browser, write_report(demo_folder))
    assert browser.title == "demo · Difference Feedback"
    assert HOSTILE in browser.find_element(By.CSS_SELECTOR, "#example-1 h3").text
    assert browser.find_elements(By.CSS_SELECTOR, "main script, img[src=x]") == []


def test_the_page_s_policy_stops_code_and_requests_even_if_they_got_in(
    browser: webdriver.Chrome, demo_folder: Path
) -> None:
    page = write_report(demo_folder)
    inside = "<script>document.title='taken'</script><img src='https://example.org/a.png'>"
    page.write_text(page.read_text().replace("</main>", inside + "</main>"))
    opened(browser, page)
    assert browser.title != "taken"
    messages = [entry["message"] for entry in browser.get_log("browser")]
    assert sum("Content Security Policy" in message for message in messages) == 2, messages
