"""What is written is read, also after a crash, by several processes and with numbers that JSON does not have."""

import json
import math
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from difference_feedback.errors import DataError
from difference_feedback.runs.jsonl import JsonLines, read_input, read_jsonl, read_rows, to_json, write_jsonl


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
        b'{"id": 1, "text": "' + b"[" * 900 + b'", "a": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"a":' * 51 + b"1" + b"}" * 51,
        '{"id": "答案"}'.encode(),
    ]
    path.write_bytes(b"\r\n".join(lines))
    rows, problems = read_jsonl(path)
    assert [(row.line, row.values) for row in rows] == [(1, {"id": 1}), (12, {"id": "答案"})]
    assert [problem.line for problem in problems] == [2, 4, 5, 6, 7, 8, 9, 10, 11]
    parts = ["JSON", "list", "str", "NoneType", "UTF-8", "JSON", "JSON", "deep", "deep"]
    for problem, part in zip(problems, parts, strict=True):
        assert part in problem.message


def test_a_key_that_occurs_twice_is_ambiguous(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"answer": 1, "answer": 2}\n{"a": {"b": 1, "b": 1}}\n{"a": {"b": 1}, "b": 2}\n')
    rows, problems = read_jsonl(path)
    assert [row.line for row in rows] == [3]
    assert [("'answer'" in str(problem), "'b'" in str(problem)) for problem in problems] == [
        (True, False),
        (False, True),
    ]


@pytest.mark.parametrize("half", ["\\ud83d", "\\uDE00", "\\ud83d\\ud83d", "a\\uDE00\\uD83Db"])
def test_half_of_a_surrogate_pair_is_a_problem_of_input(tmp_path, half):
    path = tmp_path / "rows.jsonl"
    values = [f'"{half}"', f'["a", "{half}"]', f'{{"b": {{"{half}": 1}}}}']
    lines = [f'{{"id": 1, "text": {value}}}' for value in values]
    path.write_text("\n".join([*lines, f'{{"id": 1, "{half}": 1}}', '{"id": 1, "text": "\\ud83d\\ude00 \\\\ud83d"}']))
    rows, problems = read_input(path)
    assert [row.values["text"] for row in rows] == ["😀 \\ud83d"]
    assert [(problem.line, problem.field) for problem in problems[:3]] == [(1, "text"), (2, "text"), (3, "text")]
    assert len(problems) == 4
    for problem in problems:
        str(problem).encode()
    assert len(read_jsonl(path)[0]) == 5, "files of this package hold what a model wrote"


def test_empty_file_has_no_rows(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    assert read_jsonl(tmp_path / "empty.jsonl") == ([], [])


def test_files_that_cannot_be_opened_are_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.jsonl: No such file"):
        read_jsonl(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="directory"):
        read_jsonl(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="another place"):
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


@pytest.mark.parametrize("write", [write_jsonl, lambda path, rows: JsonLines(path).append(*rows)])
def test_what_json_does_not_have_is_written_as_what_it_has(tmp_path, write):
    row = {
        "a": [1.5, math.inf],
        "b": {"c": math.nan},
        3: (np.float32(0.5), np.arange(2)),
        "d": Path("x"),
        "e": "\ud800",
    }
    write(tmp_path / "rows.jsonl", [row])
    written = {"a": [1.5, None], "b": {"c": None}, "3": [0.5, [0, 1]], "d": "x", "e": "\ud800"}
    assert read_rows(tmp_path / "rows.jsonl") == [written]
    assert json.loads(to_json(row, indent=2)) == written


def append_many(path, name, n):
    rows = JsonLines(path)
    for i in range(n):
        rows.append({"id": f"{name}{i}", "text": "ü" * 500})


def test_rows_of_two_processes_are_all_there(tmp_path):
    path = tmp_path / "rows.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=append_many, args=(path, name, 60)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    rows, problems = JsonLines(path).read()
    assert problems == []
    assert {row.values["id"] for row in rows} == {f"{name}{i}" for name in "ab" for i in range(60)}


def test_the_lock_can_be_held_over_reading_and_appending(tmp_path):
    rows = JsonLines(tmp_path / "new" / "rows.jsonl")
    assert rows.read() == ([], [])
    rows.path.parent.mkdir()
    with rows.lock:
        rows.append({"id": 1})
        assert [row.values for row in rows.read()[0]] == [{"id": 1}]


@pytest.mark.parametrize("size", [20, 200_000])
def test_a_cut_off_last_line_is_not_read_and_is_removed_by_the_next_append(tmp_path, size):
    path = tmp_path / "rows.jsonl"
    JsonLines(path).append({"id": 1}, {"id": 2})
    path.write_bytes(path.read_bytes() + b'{"id": "' + b"x" * size)
    assert read_rows(path) == [{"id": 1}, {"id": 2}]
    JsonLines(path).append({"id": 3})
    assert read_jsonl(path) == ([(1, {"id": 1}), (2, {"id": 2}), (3, {"id": 3})], [])


def test_a_whole_last_line_that_only_lacks_its_line_break_stays(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1}')
    JsonLines(path).append({"id": 2})
    assert read_rows(path) == [{"id": 1}, {"id": 2}]


def test_a_damaged_line_among_whole_ones_is_an_error_with_its_place(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1}\n{broken\n{"id": 2}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2: .*remove this line"):
        read_rows(path)
    assert read_rows(tmp_path / "absent.jsonl") == []


def test_two_writers_at_once_leave_one_whole_file(tmp_path):
    path = tmp_path / "rows.jsonl"

    def rows(value):
        for _ in range(3):
            yield {"value": value}
            if value == "outer":
                write_jsonl(path, rows("inner"))

    write_jsonl(path, rows("outer"))
    assert read_rows(path) == [{"value": "outer"}] * 3
    assert list(tmp_path.iterdir()) == [path]
