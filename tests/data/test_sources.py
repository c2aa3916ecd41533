"""Every kind of file gives the same rows, and gives each of them again on request."""

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.forms import write_csv

from difference_feedback.data import tables
from difference_feedback.data.sources import open_source
from difference_feedback.data.tables import ParquetSource, TableSource
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.runs.sections import Data

ROWS = [{"q": 'é, "x"\nnew', "a": "1"}, {"q": "zwei", "a": "β"}, {"q": "𝛼\u2028", "a": "3"}]


def json_text(value: Any, **settings: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, **settings).encode()


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"\n".join(json_text(row) for row in rows)


FILES = {
    "lines.jsonl": lines(ROWS),
    "blank_lines.jsonl": b"\n" + lines(ROWS).replace(b"\n", b"\r\n\r\n"),
    "with_mark.jsonl": b"\xef\xbb\xbf" + lines(ROWS),
    "lines.json": lines(ROWS),
    "list.json": json_text(ROWS),
    "indented.json": b"\xef\xbb\xbf" + json_text(ROWS, indent=2),
    "object.json": json_text({"info": {"version": 1}, "licenses": ["a", "b"], "data": ROWS, "n": 3}),
    "indented_object.json": json_text({"data": ROWS}, indent=1),
}


@pytest.mark.parametrize("name", [*FILES, "table.csv", "table.tsv", "one.parquet", "saved", "shards"])
def test_every_kind_of_file_gives_its_rows_and_gives_them_again(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name in FILES:
        path.write_bytes(FILES[name])
    elif name.startswith("table"):
        write_csv(path, ROWS, "\t" if name.endswith("tsv") else ",")
    elif name == "saved":
        datasets.Dataset.from_list(ROWS).save_to_disk(path, num_shards=2)
    elif name == "shards":
        path.mkdir()
        for i, part in enumerate((ROWS[:1], ROWS[1:])):
            pq.write_table(pa.Table.from_pylist(part), path / f"train-0000{i}-of-00002.parquet")
        pq.write_table(pa.Table.from_pylist(ROWS[:1]), path / "test-00000-of-00001.parquet")
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2)
    source = open_source(Data(path=str(path)))
    for _ in range(2):
        rows = list(source)
        assert [row.values for row in rows] == ROWS
        assert not source.problems
    assert [source.reread(row.number) for row in reversed(rows)] == ROWS[::-1]
    assert [row.number for row in rows] == [0, 1, 2]


def test_one_object_is_one_row(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "?"}], "images": [{"path": "a.png"}], "solution": "1"}
    (tmp_path / "a.json").write_bytes(json_text(row, indent=2))
    assert [found.values for found in open_source(Data(path=str(tmp_path / "a.json")))] == [row]


def test_bytes_are_found_at_any_depth_without_a_copy(tmp_path: Path) -> None:
    blob = np.random.default_rng(0).bytes(5000)
    rows = [
        {"images": [{"bytes": blob[i:], "path": None}] * i, "deep": {"more": [{"x": blob[:i]}]} if i % 2 else None}
        for i in range(5)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=3)
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    for path in ("a.parquet", "saved"):
        for found in open_source(Data(path=str(tmp_path / path))):
            row = rows[found.number]
            assert [bytes(image["bytes"]) for image in found.values["images"]] == [i["bytes"] for i in row["images"]]
            deep = found.values["deep"]
            assert (deep and bytes(deep["more"][0]["x"])) == (row["deep"] and row["deep"]["more"][0]["x"])


def test_a_file_of_large_groups_is_copied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert isinstance(open_source(Data(path=str(tmp_path / "a.parquet"))), ParquetSource)
    monkeypatch.setattr(tables, "_LARGE_GROUP", 1)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    source = open_source(Data(path=str(tmp_path / "a.parquet")))
    assert isinstance(source, TableSource)
    assert [row.values for row in source] == ROWS


def test_a_part_of_a_data_set_is_that_part(tmp_path: Path) -> None:
    dataset = datasets.Dataset.from_list(ROWS * 50)
    dataset.save_to_disk(tmp_path / "saved")
    part = datasets.load_from_disk(str(tmp_path / "saved")).select([5, 3, 10])
    assert [row.values for row in TableSource(part, tmp_path)] == [ROWS[2], ROWS[0], ROWS[1]]
    part = datasets.load_from_disk(str(tmp_path / "saved")).select(range(3, 6))
    assert [row.values for row in TableSource(part, tmp_path)] == ROWS


def test_what_holds_no_rows_is_named(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "saved")
    with pytest.raises(ConfigError, match=r"data\.split.*'test'.*train"):
        open_source(Data(path=str(tmp_path / "saved"), split="test"))
    (tmp_path / "two").mkdir()
    for name in ("a.csv", "b.csv"):
        write_csv(tmp_path / "two" / name, ROWS)
    with pytest.raises(ConfigError, match=r"2 files of rows \(a\.csv, b\.csv\)"):
        open_source(Data(path=str(tmp_path / "two")))
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"bad\.parquet"):
        open_source(Data(path=str(tmp_path / "bad.parquet")))
    for text in (b"", b"hello", b'{"a": ', b"\xff\xfe"):
        (tmp_path / "bad.json").write_bytes(text)
        source = open_source(Data(path=str(tmp_path / "bad.json")))
        with pytest.raises(DataError, match=r"bad\.json"):
            list(source)
