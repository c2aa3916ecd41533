"""`difference-feedback grade` on files good and bad."""

import json

import pytest
from typer.testing import CliRunner

from difference_feedback.cli import app

ROWS = [
    {"id": "a", "response": r"\boxed{B}", "answer": "B", "options": ["1", "2"], "correct": True},
    {"id": "b", "response": "The answer is 3.", "answer": 3, "correct": False},
    {"id": "c", "response": "The answer is 4.", "answer": "3", "correct": False},
]


@pytest.fixture
def run(tmp_path):
    def call(lines, *options):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
        result = CliRunner().invoke(app, ["grade", str(path), *options])
        output = tmp_path / "rows.graded.jsonl"
        graded = [json.loads(line) for line in output.read_text().splitlines()] if output.is_file() else None
        return result, graded

    return call


def test_rows_are_kept_and_graded(run):
    result, graded = run(ROWS)
    assert result.exit_code == 0
    assert [(row["id"], row["correct"], row["extracted"], row["rule"]) for row in graded] == [
        *[("a", True, "B", "letter"), ("b", True, "3", "text"), ("c", False, "4", "number")],
    ]
    assert [row["given_correct"] for row in graded] == [True, False, False]
    assert "3 graded, 2 correct" in result.output


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[(field, '"\\ud83d"') for field in ("id", "response", "answer", "extra")],
        ("options", '["\\ud83d", "2"]'),
        *[("answer", value) for value in ("1e400", "NaN", "true", "null", "[1]", "9" * 5000, '""')],
        *[("response", value) for value in ("1", "null", "[]")],
        ("options", "7"),
        ("options", "[1, 2]"),
    ],
)
def test_a_row_that_cannot_be_graded_is_listed_and_the_others_are_graded(run, field, value):
    row = {"id": "x", "response": "The answer is B", "answer": "B", "options": ["1", "2"], field: None}
    line = json.dumps({name: item for name, item in row.items() if name != field})[:-1] + f', "{field}": {value}}}'
    result, graded = run([json.dumps(ROWS[0]) + "\n", line + "\n", json.dumps(ROWS[1])])
    assert result.exit_code == 1
    assert [row["id"] for row in graded] == ["a", "b"]
    assert "line 2" in result.stderr


def test_verdicts_are_compared(run):
    result, _ = run(ROWS, "--compare", "correct")
    assert "Agrees with correct on 66.7% of 3 rows" in result.output
    assert "b: extracted '3' (text), answer '3'" in result.output.replace("answer 3", "answer '3'")


def test_bad_rows_are_named_and_the_others_graded(run):
    result, graded = run(
        [ROWS[0], "{broken\n", {"answer": "3"}, {"response": "x", "answer": ""}, {**ROWS[0], "options": "AB"}]
    )
    assert result.exit_code == 1
    assert len(graded) == 1
    for place in ("line 2", 'line 3, "response"', 'line 4, "answer"', 'line 5, "options"'):
        assert place in result.stderr


def test_a_missing_file_is_one_clear_line(tmp_path):
    result = CliRunner().invoke(app, ["grade", str(tmp_path / "none.jsonl")])
    assert result.exit_code == 2
    assert "none.jsonl" in result.stderr


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("questions.csv", "response,answer\n" + "3,3\n" * 48, 2),
        ("questions.jsonl", "", 2),
        ("questions.jsonl", "response,answer\n3 of them,3\n", 2),
        ("questions.jsonl", '{"question": "how many?", "answer": "3"}\n', 1),
    ],
)
def test_a_file_that_cannot_be_graded_is_named_once_and_leaves_nothing(tmp_path, name, text, code):
    path = tmp_path / name
    path.write_text(text)
    result = CliRunner().invoke(app, ["grade", str(path)])
    assert result.exit_code == code
    assert result.stderr.count(name) == 1
    assert "JSON" in result.stderr or '"response"' in result.stderr
    assert list(tmp_path.iterdir()) == [path]


def test_an_older_output_outlives_a_file_that_cannot_be_graded(run, tmp_path):
    run(ROWS)
    before = (tmp_path / "rows.graded.jsonl").read_text()
    result, _ = run(["response,answer\n"])
    assert result.exit_code == 2
    assert (tmp_path / "rows.graded.jsonl").read_text() == before


def test_a_field_without_verdicts_is_one_error_that_names_those_with(run):
    result, graded = run(ROWS, "--compare", "answer")
    assert result.exit_code == 2
    assert result.stderr.count("--compare") == 1
    assert "name one of correct" in result.stderr
    assert graded is None


def test_full_agreement_is_a_whole_sentence(run):
    result, _ = run(ROWS[:1] + ROWS[2:], "--compare", "correct")
    assert "Agrees with correct on 100.0% of 2 rows.\n" in result.output
