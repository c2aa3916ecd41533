"""Files that are damaged, or unlike what their names say: what can be read is read, and the rest is listed."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.forms import write_csv
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from difference_feedback.cli import app
from difference_feedback.data.sources import open_source
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.runs.sections import Data

ROWS = [{"question": f"wie groß, {i}?", "answer": f"{i}"} for i in range(6)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
COLUMNS = {"question": [row["question"] for row in ROWS], "answer": [row["answer"] for row in ROWS]}


def read(path: Path, **settings: Any) -> tuple[list[Any], list[int]]:
    """The rows and the lines of the problems. Every row is read again by its number, too."""
    source = open_source(Data(path=str(path), **settings))
    for _ in range(2):
        rows = list(source)
    assert [source.reread(row.number) for row in reversed(rows)] == [row.values for row in reversed(rows)]
    return [row.values for row in rows], [problem.line for problem in source.problems]


def table(delimiter: str, ending: str = "\n") -> str:
    return ending.join(
        delimiter.join(f'"{cell}"' if delimiter in cell else cell for cell in cells)
        for cells in (("question", "answer"), *(row.values() for row in ROWS))
    )


WHOLE = {
    "utf16.jsonl": LINES.encode("utf-16"),
    "utf16_without_mark.jsonl": LINES.encode("utf-16-le"),
    "utf16.json": json.dumps(ROWS).encode("utf-16"),
    "utf32.csv": table(",").encode("utf-32"),
    "excel.csv": b"\xff\xfe" + table("\t", "\r\n").encode("utf-16-le"),
    "mark.csv": table(",").encode("utf-8-sig"),
    "a.ndjson": LINES.encode(),
    "a.jsonl.gz": gzip.compress(LINES.encode()),
    "a.JSON.GZ": gzip.compress(json.dumps(ROWS).encode()),
    "a.csv.gz": gzip.compress(table(";").encode("utf-16")),
    "semicolons.csv": table(";").encode(),
    "bars.csv": table("|").encode(),
    "commas.tsv": table(",").encode(),
    "directive.csv": b"sep=;\r\n" + table(";", "\r\n").encode(),
    "macintosh.csv": table(",", "\r").encode(),
    "blank_cells.csv": table(",", ",,\n").replace("answer,,", "answer", 1).encode(),
    "list.jsonl": json.dumps(ROWS, indent=1).encode(),
    "list_on_one_line.jsonl": json.dumps(ROWS).encode(),
    "indented_objects.jsonl": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "indented_objects.json": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "objects_on_one_line.json": "".join(map(json.dumps, ROWS)).encode(),
    "several_lists.json": (json.dumps(ROWS[:2]) + "\n" + json.dumps(ROWS[2:])).encode(),
    "columns.json": json.dumps(COLUMNS, indent=1).encode(),
    "pandas.json": json.dumps({k: {f"{i}": v for i, v in enumerate(c)} for k, c in COLUMNS.items()}).encode(),
    "split.json": json.dumps({"columns": list(COLUMNS), "data": [list(row.values()) for row in ROWS]}).encode(),
    "questions_of_images.json": json.dumps({"images": [{"id": 1, "file": "x"}], "annotations": ROWS}).encode(),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_is_read_whatever_its_kind(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(WHOLE[name])
    assert read(tmp_path / name) == (ROWS, [])


@pytest.mark.parametrize("name", [name for name in WHOLE if "jsonl" in name])
def test_the_check_before_a_run_lets_it_pass(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(WHOLE[name])
    result = CliRunner().invoke(app, ["data", "check", str(tmp_path / name)])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "row",
    [
        {"question": "?", "image": [{"path": "a.png"}], "answer": "1"},
        {"question": "?", "choices": [{"label": "A", "text": "x"}], "answer": "A"},
        {"frage": "?", "bild": [{"path": "a.png"}], "antwort": "1"},
        {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "1"}]},
        {"messages": [{"role": "user", "content": "?"}], "images": ["a.png"]},
        {"question": "?", "answer": "1", "options": {"A": "x", "B": "y"}},
    ],
)
def test_an_object_that_is_a_row_stays_one(tmp_path: Path, row: dict[str, Any]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(row))
    assert read(tmp_path / "a.json") == ([row], [])


def rows_but(*lost: int) -> list[dict[str, str]]:
    return [row for i, row in enumerate(ROWS) if i not in lost]


CSV = table(",")
THIRD = '"wie groß, 2?",2\n'
DAMAGED = {
    "stray_quote.csv": (CSV.replace(THIRD, '"wie groß,2\n').encode(), rows_but(2), [4]),
    "stray_quote_in_the_last_line.csv": (CSV.replace('"wie groß, 5?"', '"wie groß').encode(), rows_but(5), [7]),
    "two_stray_quotes.csv": (CSV.replace('0?",', "0?,").replace('4?",', "4?,").encode(), rows_but(0, 4), [2, 6]),
    "too_many_cells.csv": (CSV.replace(THIRD, "a,b,c\n").encode(), rows_but(2), [4]),
    "bad_byte.csv": (CSV.encode().replace(b"2?", b"\xe9"), rows_but(2), [4]),
    "bad_byte.json": (json.dumps(ROWS).encode().replace(b"2?", b"\xe9"), rows_but(2), [3]),
    "bad_byte.jsonl": (LINES.encode().replace(b"2?", b"\xe9"), rows_but(2), [3]),
    "bad_first_line.json": (LINES.encode().replace(b"{", b"{,", 1), rows_but(0), [1]),
    "cut_off_after_a_comma.json": (json.dumps(ROWS[:3])[:-1].encode() + b",", ROWS[:3], [4]),
    "cut_off.json": (json.dumps(ROWS)[:-20].encode(), ROWS[:5], [6]),
    "text_after_a_list.json": (json.dumps(ROWS).encode() + b" and so on", ROWS, [7]),
    "text_after_an_object.json": (json.dumps({"data": ROWS}).encode() + b" }", ROWS, [7]),
    "latin.csv": (CSV.encode("latin-1"), [], [2, 3, 4, 5, 6, 7]),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_loses_its_own_row(tmp_path: Path, name: str) -> None:
    data, rows, lines = DAMAGED[name]
    (tmp_path / name).write_bytes(data)
    assert read(tmp_path / name) == (rows, lines)


def test_a_quote_that_swallows_rows_is_listed_where_it_opens(tmp_path: Path) -> None:
    rows = [f"{i}.png,how long is it,{i}" for i in range(1000)]
    rows[6] = '6.png,"5 inch,6'
    rows[900] = '900.png,wide 5",900'
    rows[950] = '950.png,"a ""quote"", and\nnew lines,\n\n1.png,how long,3\nand the end",950'
    (tmp_path / "a.csv").write_text("\n".join(["image,question,answer", *rows]))
    values, lines = read(tmp_path / "a.csv")
    assert lines == [8]
    assert len(values) == 999
    assert values[6]["image"] == "7.png"
    assert values[949]["question"] == 'a "quote", and\nnew lines,\n\n1.png,how long,3\nand the end'


@pytest.mark.parametrize(
    ("header", "cell", "others"),
    [
        ("question,answer", "Look at the figure, then choose:\nA. 1, 2\nB. 2, 3\nC. 3, 4\nD. 4, 5", ["B"]),
        ("question,image,answer", "Which, of all, is it?\nA. red, green, blue\nB. 1, 2, 3\nC. 4, 5, 6", ["a.png", "C"]),
    ],
)
def test_lines_with_commas_within_a_cell_are_no_rows(tmp_path: Path, header: str, cell: str, others: list[str]) -> None:
    (tmp_path / "a.csv").write_text(f'{header}\n"{cell}",{",".join(others)}\nx,{",".join(others)}\n')
    values, lines = read(tmp_path / "a.csv")
    assert lines == []
    assert [row["question"] for row in values] == [cell, "x"]


def test_keys_of_objects_and_of_tables_are_ids(tmp_path: Path) -> None:
    rows = {"5": {"question": "2+3?", "answer": "5"}, "1": {"question": "1+1?", "answer": "2", "pid": "own"}}
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert read(tmp_path / "a.json") == ([{"id": "5"} | rows["5"], rows["1"]], [])
    (tmp_path / "b.json").write_text(
        json.dumps({"question": {"q7": "a?", "q1": "b?"}, "answer": {"q7": "1", "q1": "2"}})
    )
    wanted = [{"id": "q7", "question": "a?", "answer": "1"}, {"id": "q1", "question": "b?", "answer": "2"}]
    assert read(tmp_path / "b.json") == (wanted, [])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_a_writer_of_tables_writes_is_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    cell = st.text('ab ,;"\n', max_size=12).map(str.strip).filter(lambda text: text.count("\n") < 3)
    rows = data.draw(st.lists(st.tuples(cell, cell, cell).filter(any), min_size=1, max_size=8))
    path = tmp_path_factory.mktemp("table") / "a.csv"
    with path.open("w", newline="") as file:
        quoting = data.draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
        writer = csv.writer(file, quoting=quoting, delimiter=data.draw(st.sampled_from(",;\t")))
        writer.writerows([("x", "y", "z"), *rows])
    wanted = [dict(zip("xyz", (text or None for text in row), strict=True)) for row in rows]
    assert read(path) == (wanted, [])


def test_quotes_within_cells_are_signs(tmp_path: Path) -> None:
    lines = ['"say "hi" now",1', '5" pipe,2', 'x, "red"', '"a" ,"b"']
    (tmp_path / "a.csv").write_text("\n".join(["question,answer", *lines]))
    rows, problems = read(tmp_path / "a.csv")
    assert [tuple(row.values()) for row in rows] == [('say "hi" now', "1"), ('5" pipe', "2"), ("x", "red"), ("a", "b")]
    assert not problems


def test_names_that_stand_twice_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer,answer\n?,1,2\n")
    with pytest.raises(DataError, match="answer"):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("a.zip", "unpack"), ("a.xlsx", "CSV"), ("a.txt", "jsonl"), ("rows", "jsonl"), ("a.gz", "jsonl")],
)
def test_a_file_of_another_kind_has_its_remedy(tmp_path: Path, name: str, remedy: str) -> None:
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(ConfigError, match=remedy):
        read(tmp_path / name)


def test_a_file_that_cannot_be_unpacked_or_is_empty_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES.encode())[:-9])
    (tmp_path / "b.csv.gz").write_bytes(b"a,b\n1,2\n")
    (tmp_path / "c.json").write_bytes(b" ")
    for name in ("a.jsonl.gz", "b.csv.gz", "c.json", "none.jsonl", "none.parquet", "none.csv"):
        with pytest.raises(DataError, match=name):
            read(tmp_path / name)


def test_an_arrow_file_is_read(tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    assert read(next((tmp_path / "saved").glob("*.arrow"))) == (ROWS, [])


def test_a_damaged_page_of_parquet_loses_its_group(tmp_path: Path) -> None:
    path = tmp_path / "train-0.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2, compression="zstd", use_dictionary=False)
    raw = bytearray(path.read_bytes())
    chunk = pq.read_metadata(path).row_group(1).column(0)
    end = chunk.data_page_offset + chunk.total_compressed_size
    raw[chunk.data_page_offset + 2 : end] = bytes(end - chunk.data_page_offset - 2)
    path.write_bytes(raw)
    assert read(tmp_path) == (rows_but(2, 3), [3, 4])
    (tmp_path / "train-1.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"train-1\.parquet"):
        read(tmp_path)


LAYOUTS = [
    (["train_0", "test_0"], "train", ["train_0"]),
    (["data/test-00000-of-00001", "data/validation-00000-of-00001"], "validation", ["data/validation-00000-of-00001"]),
    (["geo_train", "geo_val"], "validation", ["geo_val"]),
    (["train/0", "train/1", "validation/0"], "train", ["train/0", "train/1"]),
    (["data/testmini-00000-of-00001", "data/test-00000-of-00001"], "test", ["data/test-00000-of-00001"]),
    (["data/hard-00000-of-00001", "data/easy-00000-of-00001"], "hard", ["data/hard-00000-of-00001"]),
    (["part-0", "part-1"], "train", ["part-0", "part-1"]),
    (["part-0", "test"], "train", ["part-0"]),
    (["train-0", ".cache/train-1", "cache/train-2"], "train", ["train-0"]),
    (["data/test-00000-of-00001", "data/validation-00000-of-00001"], "train", None),
    (["train_0", "test_0"], "tset", None),
    (["part-0", "part-1"], "tset", None),
]


@pytest.mark.parametrize(("files", "split", "wanted"), LAYOUTS)
def test_a_folder_gives_the_split_alone(tmp_path: Path, files: list[str], split: str, wanted: list[str] | None) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist([{"question": name}]), tmp_path / f"{name}.parquet")
    if wanted is None:
        with pytest.raises(ConfigError, match=r"data\.split"):
            read(tmp_path, split=split)
    else:
        rows, _ = read(tmp_path, split=split)
        assert [row["question"] for row in rows] == wanted


def test_the_splits_there_are_are_listed(tmp_path: Path) -> None:
    for name in ("geo_train", "test-00000-of-00001"):
        pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / f"{name}.parquet")
    with pytest.raises(ConfigError, match="'tset'; it has train, test"):
        read(tmp_path, split="tset")


def test_files_beside_the_questions_do_not_replace_them(tmp_path: Path) -> None:
    write_csv(tmp_path / "questions.csv", ROWS)
    (tmp_path / "dataset_info.json").write_text("{}")
    for place in ("cache", "embeddings"):
        (tmp_path / place).mkdir()
        pq.write_table(pa.Table.from_pylist([{"x": 1}]), tmp_path / place / "x.parquet")
    assert read(tmp_path) == (ROWS, [])
    write_csv(tmp_path / "test.csv", ROWS[:1])
    assert read(tmp_path) == (ROWS, [])
    assert read(tmp_path, split="test") == (ROWS[:1], [])
