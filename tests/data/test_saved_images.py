"""Image files of rows: every id has files of its own, inside the folder, whatever the id is."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from difference_feedback.data.repair_set import RepairExample, load_repair_set, save_repair_set
from difference_feedback.data.saved_images import file_stem

IDS = [
    "a/1",
    "a_1",
    "A_1",
    "..",
    "../../x",
    "",
    " ",
    "x" * 280,
    "x" * 281,
    "https://a.b/c?d=e#f",
    "日本語",
    "日本",
    "con",
]
IDS += ["a\\b", "a\0b", "\ud800", "-rf", ".hidden", "a.png"]


@given(st.lists(st.one_of(st.sampled_from(IDS), st.text(max_size=300)), unique=True, max_size=20))
def test_names_are_different_even_where_case_does_not_count(ids):
    stems = [file_stem(id) for id in ids]
    assert len({stem.lower() for stem in stems}) == len(ids)
    assert all(stem.isascii() and len(stem) < 64 and "/" not in stem and stem[0] not in ".-" for stem in stems)
    assert stems == [file_stem(id) for id in ids]


@pytest.mark.parametrize(("one", "other"), pairwise(id for id in IDS if id.isprintable() and id.strip()))
def test_a_set_of_any_ids_is_read_as_it_was_written(tmp_path, one, other):
    colours = {one: "red", other: "blue"}
    rows = [RepairExample(id, "q", (Image.new("RGB", (30, 30), c),), "x", None, "y") for id, c in colours.items()]
    path = save_repair_set(rows, tmp_path / "set" / "set.jsonl")
    loaded = load_repair_set(path)
    assert loaded.errors == []
    assert [(row.id, row.images[0].tobytes()) for row in loaded.rows] == [(r.id, r.images[0].tobytes()) for r in rows]
    assert {entry.name for entry in tmp_path.iterdir()} == {"set"}
