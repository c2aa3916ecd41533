"""Rows name files of their own folder, or of one that the user names; no others, and nothing that is no file."""

import json
import os
from pathlib import Path

import datasets
import pytest
from PIL import Image

from difference_feedback.data.dataset import load_data
from difference_feedback.data.named_files import named_file
from difference_feedback.data.repair_set import load_repair_set
from difference_feedback.errors import DataError
from difference_feedback.runs.sections import Data

ROW = {"question": "How many?", "answer": "3"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`data` with images, links and a pipe in it; `elsewhere` beside it."""
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    (data / "below").mkdir(parents=True)
    elsewhere.mkdir()
    for path in (data / "a.png", data / "below" / "b.png", data / "~c.png", elsewhere / "secret.png"):
        Image.new("RGB", (40, 40), "red").save(path)
    (data / "link.png").symlink_to(elsewhere / "secret.png")
    (data / "inner.png").symlink_to(data / "a.png")
    (data / "linked").symlink_to(elsewhere)
    (data / "zero.png").symlink_to("/dev/zero")
    (data / "input.png").symlink_to("/dev/stdin")
    (data / "loop.png").symlink_to(data / "loop.png")
    (data / "folder.png").mkdir()
    os.mkfifo(data / "pipe.png")
    return data


def inside(folder: Path) -> list[str]:
    names = ["a.png", "below/b.png", "./below/../a.png", "~c.png", "inner.png"]
    return [*names, str(folder / "a.png"), f"file://{folder / 'a.png'}"]


def outside(folder: Path) -> list[str]:
    secret = folder.parent / "elsewhere" / "secret.png"
    names = ["../elsewhere/secret.png", "link.png", "linked/secret.png", str(secret), f"file://{secret}"]
    return [*names, "below/../../elsewhere/secret.png", os.path.relpath(secret, folder)]


NEVER = (
    *(
        "/dev/zero",
        "/dev/stdin",
        "zero.png",
        "input.png",
        "pipe.png",
        "loop.png",
        "folder.png",
        ".",
        "/",
        "/proc/self/mem",
    ),
    *("http://127.0.0.1:1/a.png", "HTTPS://example.org/a.png", "ftp://example.org/a.png", "s3://bucket/a.png"),
    *(
        "C:\\images\\a.png",
        "\\\\server\\share\\a.png",
        "~root/a.png",
        "~/a.png",
        "a.png\0",
        "\0",
        "none.png",
        "x" * 5000,
    ),
    *("file://example.org/a.png", "file://a\0", "a.png/../../elsewhere/none.png"),
)


def written(folder: Path, kind: str, names: list[str]) -> Path:
    path = folder / f"rows.{kind}"
    rows = [{**ROW, "image": name} for name in ["a.png", *names]]
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "csv":
        path.write_text("question,answer,image\n" + "".join(f'How many?,3,"{row["image"]}"\n' for row in rows))
    else:
        datasets.Dataset.from_list(rows).to_parquet(str(path))
    return path


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_every_reader_has_the_same_rule(folder: Path, kind: str) -> None:
    good, bad = inside(folder), [*outside(folder), *NEVER]
    loaded = load_data(Data(path=str(written(folder, kind, [*good, *bad])), instruction=""))
    assert len(loaded.dataset) == 1 + len(good)
    assert [problem.field for problem in loaded.problems] == ["image"] * len(bad)
    by_name = dict(zip(bad, loaded.problems, strict=True))
    for name in outside(folder):
        assert "lies outside" in by_name[name].message
        assert "data.image_root=" in by_name[name].message


def test_a_named_root_admits_its_files_and_no_others(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    (elsewhere / "up.png").symlink_to(folder.parent / "other.png")
    Image.new("RGB", (40, 40)).save(folder.parent / "other.png")
    path = written(folder, "jsonl", ["secret.png", *inside(folder), *outside(folder), "up.png", "../other.png", *NEVER])
    loaded = load_data(Data(path=str(path), instruction="", image_root=str(elsewhere)))
    assert len(loaded.dataset) == 2 + len(inside(folder)) + len(outside(folder))
    assert len(loaded.problems) == 2 + len(NEVER)
    whole = load_data(Data(path=str(path), instruction="", image_root="/"))
    assert len(whole.problems) == len(NEVER) + 2, "secret.png and up.png are relative, and not here"


def test_videos_and_their_frames_have_the_rule(folder: Path) -> None:
    frames = folder / "frames"
    frames.mkdir()
    for i in range(3):
        Image.new("RGB", (40, 40)).save(frames / f"{i}.png")
    path = folder / "rows.jsonl"
    videos = ["frames", [f"frames/{i}.png" for i in range(3)], "../elsewhere", ["frames/0.png", "link.png"], "pipe.png"]
    path.write_text("".join(json.dumps({**ROW, "video": video}) + "\n" for video in videos))
    loaded = load_data(Data(path=str(path), instruction=""))
    assert (loaded.lines, [problem.line for problem in loaded.problems]) == ([1, 2], [3, 4, 5])
    (frames / "1.png").unlink()
    (frames / "1.png").symlink_to(folder.parent / "elsewhere" / "secret.png")
    with pytest.raises(DataError, match="none of 5 rows"):
        load_data(Data(path=str(path), instruction=""))


@pytest.mark.parametrize("name", ["none.png", "../elsewhere/secret.png"])
def test_the_folder_of_a_file_beside_the_user_is_named_in_full(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(DataError) as caught:
        named_file(name, (Path(),), remedy="copy it into that folder")
    assert repr(str(folder)) in str(caught.value)


def test_repair_sets_have_the_rule(folder: Path) -> None:
    row = {"question": "q ?", "draft": "1", "repaired": "2"}
    names = ["a.png", *inside(folder), *outside(folder), *NEVER]
    path = folder / "set.jsonl"
    path.write_text("".join(json.dumps(row | {"id": str(i), "image": n}) + "\n" for i, n in enumerate(names)))
    loaded = load_repair_set(path)
    assert len(loaded.rows) == 1 + len(inside(folder))
    assert len(loaded.errors) == len(outside(folder)) + len(NEVER)
    path.write_text(json.dumps(row | {"id": "1", "image": "link.png"}))
    with pytest.raises(DataError, match="copy it into that folder"):
        load_repair_set(path)
