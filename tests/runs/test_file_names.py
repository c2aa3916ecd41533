"""Files beside a file: two files never share one."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from difference_feedback.runs.file_names import bare_name, beside

NAMES = st.from_regex(r"[a-c][a-c.]{0,5}\.jsonl?", fullmatch=True)


def test_a_dot_within_a_name_belongs_to_it():
    assert beside(Path("x/qwen2.5-vl.jsonl"), "masks") == Path("x/qwen2.5-vl.masks.jsonl")
    assert beside(Path("qwen2.5-vl"), "masks") == Path("qwen2.5-vl.masks.jsonl")
    assert [bare_name(name) for name in ("recipes/df_0.5.yaml", "df_0.5", ".jsonl")] == ["df_0.5", "df_0.5", ".jsonl"]


@given(NAMES, NAMES)
def test_different_files_have_different_ones_beside_them(first, second):
    assert (first == second) == (beside(Path(first), "annotated") == beside(Path(second), "annotated"))
