"""Reading what can be read, and naming what cannot."""

import json

import pytest

from difference_feedback.errors import DataError
from difference_feedback.runs.jsonl import RowProblem, read_jsonl, write_jsonl


def test_good_rows_survive_bad_neighbours(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [
        b'\xef\xbb\xbf{"id": 1}',
        b"{broken",
        b"",
        b"[1, 2]",
        b'"text"',
        b"null",
        b'{"id": "\xff"}',
        b"[" * 200_000,
        b'{"id": ' + b"9" * 5000 + b"}",
        '{"id": "答案"}'.encode(),
    ]
    path.write_bytes(b"\r\n".join(lines))
    rows, problems = read_jsonl(path)
    assert [(row.line, row.values) for row in rows] == [(1, {"id": 1}), (10, {"id": "答案"})]
    assert [problem.line for problem in problems] == [2, 4, 5, 6, 7, 8, 9]
    for problem, part in zip(problems, ["JSON", "list", "str", "NoneType", "UTF-8", "JSON", "JSON"], strict=True):
        assert part in problem.message


def test_a_problem_reads_as_a_sentence():
    assert str(RowProblem(3, "wrong", "missing")) == 'line 3, "wrong": missing'
    assert str(RowProblem(3, None, "no valid JSON")) == "line 3: no valid JSON"


def test_empty_file_has_no_rows(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    assert read_jsonl(tmp_path / "empty.jsonl") == ([], [])


def test_files_that_cannot_be_opened_are_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.jsonl: No such file"):
        read_jsonl(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="directory"):
        read_jsonl(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="can be written"):
        write_jsonl(tmp_path / "file" / "out.jsonl", [])


def test_written_rows_come_back(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    rows = [{"id": "é\u2028\n", "x": [1, 2.5]}, {}]
    assert write_jsonl(path, rows) == 2
    assert [row.values for row in read_jsonl(path)[0]] == rows
    assert "é" in path.read_text(encoding="utf-8")


def test_nothing_is_left_of_a_file_that_failed_half_way(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"old": 1}) + "\n")

    def rows():
        yield {"new": 1}
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        write_jsonl(path, rows())
    assert read_jsonl(path)[0][0].values == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]
