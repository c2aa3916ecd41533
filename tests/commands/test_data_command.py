"""`difference-feedback data check`, and the way of docs/your_data.md from a folder with a CSV to a training."""

import json
import re
import time
from pathlib import Path

import pytest
from data.forms import COLORS, data_url_of, picture, write_csv, write_jsonl
from typer.testing import CliRunner

from difference_feedback.cli import app
from difference_feedback.data.forms import FORMS

DOCS = Path(__file__).parents[2] / "docs" / "your_data.md"
EVIL = "<script>alert(1)</script> & <b>?"


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my_data"
    (folder / "images").mkdir(parents=True)
    rows = []
    for color in COLORS:
        picture(color).save(folder / "images" / f"{color}.png")
        rows += [{"image": f"images/{color}.png", "question": "what color is it ?", "answer": color}] * 3
    write_csv(folder / "questions.csv", rows)
    return folder


def test_a_folder_with_a_csv_is_checked_and_trained_on(folder: Path, tmp_path: Path) -> None:
    start = time.perf_counter()
    code, text = run("data", "check", folder, "--rows", 2)
    assert code == 0
    assert "12 of 12 rows are usable" in text
    assert text.count("[image 48 x 36]") == 2
    assert all(f"{field} <- {field}" in text for field in ("question", "image", "answer"))
    code, text = run("train", "nano_grpo", f"data.path={folder}", "trl.max_steps=2", "-o", tmp_path / "run")
    assert code == 0, text
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 2
    assert time.perf_counter() - start < 300


def test_rows_that_are_left_out_are_counted_by_their_reason(folder: Path, tmp_path: Path) -> None:
    good = {"id": "1", "frage": EVIL, "image": data_url_of("red"), "answer": "3", "options": ["3", "4"]}
    missing = [{**good, "id": f"m{i}", "image": f"none{i}.png"} for i in range(5)]
    path = write_jsonl(tmp_path / "rows.jsonl", [good, *missing, {**good, "id": "1"}])
    page = tmp_path / "page.html"
    code, text = run("data", "check", path, "data.columns.question=frage", "--html", page)
    assert code == 0
    assert "1 of 7 rows are usable" in text
    assert "5 left out: image" in text
    assert "1 left out: id" in text
    assert "line 2" in text
    assert "line 5" not in text, "the first three of each reason"
    assert "[image 48 x 36]" + EVIL in text
    html = page.read_text()
    assert "<script" not in html
    assert "alert(1)" in html
    assert html.count("data:image/png;base64,") == 1


def test_prompts_over_the_limit_are_counted(folder: Path) -> None:
    code, text = run("data", "check", folder, "model=nano", "max_prompt_length=10")
    assert code == 0
    assert "12 of 12 (100.0%) are over the limit of 10" in text
    code, text = run("data", "check", folder, "model=nano", "max_prompt_length=1000")
    assert "0 of 12 (0.0%)" in text


def test_mistakes_are_one_message(folder: Path, tmp_path: Path) -> None:
    code, text = run("data", "check", tmp_path / "none.csv")
    assert (code, text.count("Traceback")) == (2, 0)
    assert "none.csv" in text
    code, text = run("data", "check", folder, "data.columns.answer=truth")
    assert code == 2
    assert re.search(r"data\.columns\.answer.*image, question, answer", text)
    path = write_jsonl(tmp_path / "bad.jsonl", [{"question": "?", "image": "none.png", "answer": "1"}])
    code, text = run("data", "check", path)
    assert code == 1
    assert "0 of 1 rows are usable" in text


def test_the_page_of_forms_lists_those_that_there_are() -> None:
    table = {
        name: line for line in DOCS.read_text().splitlines() if line.startswith("| `") for name in line.split("`")[1:2]
    }
    for form in FORMS:
        assert all(f"`{column}`" in table[form.name].split("|")[2] for column in form.needs), form.name
