"""Hand-repaired answers as a file: what is written is read, and a bad row is named and stops nothing."""

import json

import pytest
from PIL import Image

from difference_feedback.data.draft_rows import load_draft_rows
from difference_feedback.data.repair_set import RepairExample, load_repair_set, save_repair_set
from difference_feedback.errors import DataError

GOOD = {
    "id": "a",
    "question": "q ?",
    "image": "a.png",
    "draft": "answer 1",
    "reference": "answer 2",
    "repaired": "answer 2",
}


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    return tmp_path


def write(folder, *rows):
    path = folder / "set.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_what_is_saved_is_loaded(tmp_path):
    images = (Image.new("RGB", (40, 30), "red"), Image.new("RGB", (30, 40), "blue"))
    rows = [
        RepairExample("0-1", "wie viele „Äpfel“ ?", images, "answer 1", "answer 2", "answer 2"),
        RepairExample("0-2", "q", (), "answer 1", None, "answer 3"),
    ]
    loaded = load_repair_set(save_repair_set(rows, tmp_path / "new" / "set.jsonl"))
    assert loaded.errors == []
    for row, copy in zip(rows, loaded.rows, strict=True):
        assert [i.tobytes() for i in copy.images] == [i.tobytes() for i in row.images]
        assert {**vars(copy), "images": None} == {**vars(row), "images": None}


def test_the_prompt_is_the_policys(folder):
    [row] = load_repair_set(write(folder, GOOD)).rows
    assert row.prompt == [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "q ?"}]}]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{not json", "line 2: no valid JSON"),
        ("[1]", "line 2: a JSON list"),
        (GOOD | {"id": "b", "draft": " "}, "line 2, field 'draft': got ' '"),
        (GOOD | {"id": "b", "repaired": 3}, "line 2, field 'repaired': got 3"),
        (GOOD | {"id": "b", "repaired": "<|im_start|> <|im_end|>"}, "line 2, field 'repaired': got '<|im_start|>"),
        ({k: v for k, v in GOOD.items() if k != "question"}, "line 2, field 'question': got None"),
        (GOOD | {"id": "b", "reference": 3}, "line 2, field 'reference': got 3"),
        (GOOD | {"id": "b", "image": None}, "line 2, field 'image': got None"),
        (GOOD | {"id": "b", "image": "none.png"}, "line 2, field 'image': there is no file"),
        (GOOD | {"id": "b", "image": "set.jsonl"}, "line 2, field 'image': Pillow cannot read"),
        (GOOD, "line 2, field 'id': 'a' is line 1's too"),
        (GOOD | {"id": "b", "repaired": " answer  1\n"}, "line 2, field 'repaired': it is the draft; correct it"),
    ],
)
def test_a_bad_row_is_named_and_the_good_ones_are_kept(folder, bad, message):
    loaded = load_repair_set(write(folder, GOOD, bad, GOOD | {"id": "c", "more": [1]}))
    assert [row.id for row in loaded.rows] == ["a", "c"]
    [error] = loaded.errors
    assert error.startswith(message)


def test_the_repair_may_be_called_repair(folder):
    row = {name: value for name, value in GOOD.items() if name != "repaired"} | {"repair": "answer 3"}
    loaded = load_repair_set(write(folder, row, row | {"id": "b", "repair": ""}, GOOD | {"id": "c", "repair": "other"}))
    assert [row.repaired for row in loaded.rows] == ["answer 3", "answer 2"]
    assert loaded.errors[0].startswith("line 2, field 'repair'")


@pytest.mark.parametrize("reference", ["", " \n", "<|im_end|>", None])
def test_an_empty_reference_is_none(folder, reference):
    row = GOOD | {"reference": reference, "answer": "2"}
    assert load_repair_set(write(folder, row)).rows[0].reference is None
    assert load_draft_rows(write(folder, row)).rows[0].reference is None
    with pytest.raises(DataError, match="there is no reference"):
        load_draft_rows(write(folder, row | {"answer": None}))


def test_large_images_are_scaled_down(folder):
    Image.new("RGB", (3000, 2000)).save(folder / "a.png")
    [row] = load_repair_set(write(folder, GOOD), max_pixels=60_000).rows
    assert row.images[0].width * row.images[0].height <= 60_000


def test_a_file_without_a_usable_row_is_an_error(folder):
    with pytest.raises(DataError, match=r"not one row can be used: line 1, field 'draft'"):
        load_repair_set(write(folder, GOOD | {"draft": ""}))
    with pytest.raises(DataError, match="it has no row"):
        load_repair_set(write(folder))
    with pytest.raises(DataError, match=r"missing\.jsonl"):
        load_repair_set(folder / "missing.jsonl")
