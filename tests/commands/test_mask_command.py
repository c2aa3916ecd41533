"""The mask command from the outside, and the page it writes."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import typer
from typer.testing import CliRunner

from difference_feedback.cli import app
from difference_feedback.commands.mask import mask

GOOD = [
    {
        "id": "one",
        "question": "How many <digits>?",
        "wrong": "There are 3 digits .",
        "repaired": "There are 6 digits .",
    },
    {"id": "two", "wrong": [4, 5, 6], "repaired": [4, 6]},
    {"id": "空", "wrong": "", "repaired": "答案是 \\frac{1}{2} 🐢"},
]


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in GOOD), encoding="utf-8")
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["mask", *map(str, arguments)])


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_masks_and_page(pairs, tmp_path):
    result = run(pairs, "--output", tmp_path / "out.jsonl", "--html", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    rows = read(tmp_path / "out.jsonl")
    assert [row["id"] for row in rows] == ["one", "two", "空"]
    assert rows[0]["wrong_mask"] == [0, 0, 1, 0, 0]
    assert "3 pairs" in result.output
    assert "page.html" in result.output
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<mark class="edit">3</mark>' in page
    assert '<mark class="anchor">6</mark>' in page
    assert "How many &lt;digits&gt;?" in page
    assert page.count("<article>") == 3


def test_output_has_a_default_place(pairs):
    assert run(pairs).exit_code == 0
    assert len(read(pairs.with_name("pairs.masks.jsonl"))) == 3


def test_good_rows_are_done_and_bad_ones_listed(pairs, tmp_path):
    with pairs.open("a", encoding="utf-8") as file:
        file.write('{broken\n{"id": "one", "wrong": "a", "repaired": "b"}\n{"id": 9, "wrong": "a"}\n[]\n')
        file.write('{"id": 10, "wrong": [-1], "repaired": [1]}\n{"id": 11, "wrong": "same", "repaired": "same"}\n')
    result = run(pairs, "-o", tmp_path / "out.jsonl")
    assert result.exit_code == 1
    assert [row["id"] for row in read(tmp_path / "out.jsonl")] == ["one", "two", "空", 11]
    assert f"5 rows of {pairs} could not be used" in result.stderr
    for part in ("line 4: ", 'line 5, "id"', 'line 6, "repaired": missing', "line 7: ", 'line 8, "wrong": token 0'):
        assert part in result.stderr
    assert "could not be used" not in result.stdout


def test_step_granularity_of_bare_ids_is_a_problem_of_their_row(pairs, tmp_path):
    result = run(pairs, "-o", tmp_path / "out.jsonl", "--granularity", "step")
    assert result.exit_code == 1
    assert [row["id"] for row in read(tmp_path / "out.jsonl")] == ["one", "空"]
    assert "line 2: granularity" in result.stderr


def test_options_reach_the_masks(pairs, tmp_path):
    out = tmp_path / "out.jsonl"
    assert run(pairs, "-o", out, "--no-anchor-gaps", "--method", "lcs").exit_code == 0
    rows = read(out)
    assert rows[0]["distance"] == 2
    assert rows[1]["repaired_mask"] == [0, 0]
    assert run(pairs, "-o", out, "--sigma", "2", "--html", tmp_path / "page.html").exit_code == 0
    assert read(out)[0]["wrong_mask"][1] == pytest.approx(0.606531)
    assert 'class="near" style="--w:0.61"' in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_file_of_many_pairs_shows_progress_and_finishes(tmp_path):
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({"id": i, "wrong": f"a {i}", "repaired": f"b {i}"}) + "\n" for i in range(1500)))
    result = run(path, "-o", tmp_path / "out.jsonl")
    assert result.exit_code == 0
    assert len(read(tmp_path / "out.jsonl")) == 1500


def test_long_lists_of_problems_are_cut_and_counted(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("{\n" * 70 + json.dumps(GOOD[0]))
    result = run(path)
    assert result.exit_code == 1
    assert "70 rows" in result.stderr
    assert "and 20 more" in result.stderr


def test_missing_file_and_wrong_options_end_with_2(pairs, tmp_path):
    result = run(tmp_path / "absent.jsonl")
    assert result.exit_code == 2
    assert "absent.jsonl: No such file" in result.stderr
    assert run(pairs, "--sigma", "0").exit_code == 2
    assert run(pairs, "--method", "myers").exit_code == 2


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("empty.jsonl", "", "no row"),
        ("rows.csv", "id,wrong,repaired\n" + "1,a,b\n" * 49, "csv file"),
        ("list.jsonl", json.dumps(GOOD[:1]), "list"),
    ],
)
def test_a_file_without_any_row_is_one_error_and_leaves_no_file(tmp_path, name, text, word):
    path = tmp_path / name
    path.write_text(text)
    result = run(path, "--html", tmp_path / "page.html")
    assert result.exit_code == 2
    assert result.stderr.count(name) == 1
    assert word in result.stderr
    assert "JSON Lines" in result.stderr
    assert list(tmp_path.iterdir()) == [path]


def test_rows_of_which_none_can_be_used_leave_no_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "1", "wrong": "a"}\n')
    result = run(path, "--html", tmp_path / "page.html")
    assert result.exit_code == 1
    assert "line 1" in result.stderr
    assert list(tmp_path.iterdir()) == [path]


def test_help_has_an_example_and_the_command_stands_alone():
    alone = typer.Typer(rich_markup_mode="rich")
    alone.command()(mask)
    result = CliRunner().invoke(alone, ["--help"])
    assert result.exit_code == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
    assert "Example:" in plain
    for option in ("--output", "--html", "--tokenizer", "--method", "--granularity", "--sigma", "--anchor-gaps"):
        assert option in plain


def test_help_loads_no_trainer():
    code = (
        "import sys; from difference_feedback.commands.mask import mask; "
        "print({'torch', 'transformers', 'trl'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


class Elements(HTMLParser):
    """All tags of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)> {{ 7*7 }} \' " & </p>'


def test_hostile_answers_are_escaped_and_the_page_asks_for_nothing(tmp_path):
    path = tmp_path / "pairs.jsonl"
    row = {"id": HOSTILE, "question": HOSTILE, "wrong": HOSTILE, "repaired": HOSTILE + " more"}
    path.write_text(json.dumps(row) + "\n")
    assert run(path, "--html", tmp_path / "page.html").exit_code == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    elements = Elements(page)
    assert {"script", "img", "link"} & {tag for tag, _ in elements.tags} == set()
    assert not any({"src", "href", "onerror"} & set(attributes) for _, attributes in elements.tags)
    assert elements.text.count('<script>alert("x")</script>') == 4
    assert "http" not in page


@pytest.mark.browser
def test_page_in_a_browser(pairs, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no Chromium found; install it to look at the page as a reader does")
    run(pairs, "--html", tmp_path / "page.html")
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        f"--disable-component-update --disable-sync --user-data-dir={tmp_path / 'profile'} --dump-dom"
    )
    done = subprocess.run(
        [browser, *flags.split(), (tmp_path / "page.html").as_uri()],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    elements = Elements(done.stdout)
    assert sum(tag == "article" for tag, _ in elements.tags) == 3
    assert "CONSOLE" not in done.stderr
