"""Rows of any kind: what cannot be worked on is left out and listed, and the page opens with the others."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from difference_feedback.annotate.feedback import feedback_html
from difference_feedback.annotate.item_check import LONGEST
from difference_feedback.annotate.items import load_work
from difference_feedback.annotate.page_parts import images_html, message_html, other_text_html, question_html
from difference_feedback.annotate.projects import RepairProject
from difference_feedback.data.repair_set import load_repair_set
from difference_feedback.errors import DataError, FieldError
from difference_feedback.runs.jsonl import RowProblem

GOOD = {"id": "good", "question": "How many?", "image": "a.png", "draft": "I see 1 .", "answer": "9"}
DEEP: Any = "x"
for _ in range(300):
    DEEP = [DEEP]
WRONG_TYPES: list[Any] = [0.5, True, {"a": 1}, [1], [None], [["a"]]]
BAD: dict[str, list[Any]] = {
    "id": [*WRONG_TYPES, None, "x" * 5000],
    "question": [*WRONG_TYPES, 7, None, "", " \n", "\ud83d", "x" * (LONGEST + 1), ["a"]],
    "draft": [*WRONG_TYPES, 7, None, "", "a \udc00", "x" * (LONGEST + 1)],
    "reference": [*WRONG_TYPES, 7, ["a"], "x" * (LONGEST + 1)],
    "rule": [*WRONG_TYPES, 7, ["embedded"]],
    "answer": [{"a": 1}, ["9"], [[]], "9" * (LONGEST + 1)],
    "options": [*WRONG_TYPES, 7, "AB", ["a"] * 2000, ["x" * LONGEST, "y"], ["\ud800"]],
    "image": [
        *(0.5, True, 7, {"path": "a.png"}, [7], [None], ["a.png", None], [["a.png"]], {"a.png": 1}),
        *("a\0.png", "a.png\0", "\ud83d.png", "\udcff.png", "x" * 5000, "x/" * 2500 + "a.png", "none.png", "."),
        *("../a.png", "/etc/passwd", "~/a.png", "loop.png", "out.png", "file:///etc/passwd", ["a.png"] * 200),
    ],
    "prompt": [*WRONG_TYPES, 7, "text", [{"role": "user"}], [{"role": "user", "content": [{"type": "image"}] * 3}]],
    "subject": ["\ud83d", {"\udc00": 1}, "x" * 6_000_000],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("items") / "inside"
    folder.mkdir()
    for path in (folder / "a.png", folder.parent / "a.png"):
        Image.new("RGB", (30, 30), "red").save(path)
    os.symlink("loop.png", folder / "loop.png")
    os.symlink(folder.parent / "a.png", folder / "out.png")
    return folder


def test_a_row_of_a_wrong_kind_is_left_out_and_listed(folder: Path) -> None:
    cases = [(name, value) for name, values in BAD.items() for value in values]
    lines = [json.dumps(GOOD)] + [json.dumps(GOOD | {"id": f"bad {i}", n: v}) for i, (n, v) in enumerate(cases)]
    lines += [
        "[" * 100_000,
        "7",
        "null",
        '"x"',
        "{",
        '{"id": ' + "9" * 5000 + "}",
        "\0",
        json.dumps(GOOD | {"subject": DEEP}),
        json.dumps(GOOD | {"id": 0}),
    ]
    path = folder / "items.jsonl"
    path.write_text("\n".join(lines))
    work = load_work(path, "draft")
    assert [row["id"] for row in work.rows] == ["good", "0"]
    by_line = {problem.line: problem.field for problem in work.problems}
    for line, (name, value) in enumerate(cases, 2):
        assert by_line.get(line) == name, (name, str(value)[:80])
    assert sorted(by_line) == list(range(2, len(lines)))
    assert max(len(str(problem)) for problem in work.problems) < 400


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["a.png", "\ud83d"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
FIELDS = ("id", "question", "image", "draft", "reference", "answer", "options", "rule", "prompt", "subject")


@given(row=st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, values)))
def test_every_row_is_left_out_or_can_be_shown_saved_and_read_again(folder: Path, row: dict[str, Any]) -> None:
    path = folder / "any.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in (GOOD, {**GOOD, "id": "any", **row})))
    work = load_work(path, "draft")
    assert len(work.rows) + len(work.problems) == 2
    for item in work.rows[1:]:
        assert "<" not in question_html(item).replace("<d", "").replace("</d", "").replace("&lt;", "")
        feedback_html(item, "a repair")
        images_html(item, folder)
        output = folder / "any.annotated.jsonl"
        output.unlink(missing_ok=True)
        project = RepairProject(work, output)
        project.save("ada", 1, f"{item['draft']} repaired")
        assert len(load_repair_set(output).rows) == 1


def test_a_text_that_is_too_long_or_no_text_is_not_saved(folder: Path) -> None:
    path = folder / "long.jsonl"
    path.write_text(json.dumps(GOOD))
    project = RepairProject(load_work(path, "draft"))
    for text in ("x" * (LONGEST + 1), "half of a \ud83d"):
        with pytest.raises(DataError):
            project.save("ada", 0, text)
    assert not project.output.path.exists()


HOSTILE = "</script></textarea></pre></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'` ${alert(1)}"


def test_names_and_errors_are_text_in_the_page(tmp_path: Path) -> None:
    image = tmp_path / "<img src=x onerror=alert(1)>.png"
    image.write_bytes(b"no picture")
    problem = RowProblem(1, HOSTILE, str(FieldError("id", HOSTILE)))
    item = {"id": HOSTILE, "question": HOSTILE, "draft": HOSTILE, "rule": HOSTILE, "answer": HOSTILE}
    for html in (
        images_html({"image": [image.name]}, tmp_path),
        message_html(str(problem)),
        other_text_html(HOSTILE, HOSTILE),
        question_html(item | {"options": [HOSTILE], "reference": HOSTILE}),
        feedback_html(item, HOSTILE, drafted=HOSTILE),
    ):
        for markup in ("<script", "<img", "</script", "</pre><", "</textarea", "</style", 'onerror=alert(1)>"'):
            assert markup not in html


@pytest.mark.parametrize("time", [10**400, float("nan"), 1e300, -1, "now", None])
@pytest.mark.parametrize("options", [7, [7, None, ["a"]], {"a": 1}])
def test_rows_that_others_wrote_into_the_page_s_files_stop_no_turn(tmp_path: Path, time: Any, options: Any) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps({"id": i, "question": "q", "draft": "5", "answer": "9"}) + "\n" for i in (0, 1)))
    saved = {
        "id": "1",
        "question": "q",
        "draft": "5",
        "drafted": "7",
        "repaired": "9",
        "answer": "9",
        "options": options,
    }
    saved |= {"annotator": "bob", "drafted_by": "model"}
    (tmp_path / "items.annotated.jsonl").write_text(json.dumps(saved) + "\n")
    (tmp_path / "items.claims.jsonl").write_text(json.dumps({"id": "0", "annotator": "bob", "time": time}) + "\n")
    work = RepairProject(load_work(path, "draft"))
    assert work.next("ada") == 0
    assert len(work.corrections()) == 1
    assert work.progress("ada").done == 1
