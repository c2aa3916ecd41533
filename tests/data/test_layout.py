"""Which form a file has, and which of its columns hold images, videos, ids and messages."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.forms import COLORS, base64_of, picture, write_animation

from difference_feedback.data.dataset import LoadedData, load_data, read_data
from difference_feedback.data.video import spread
from difference_feedback.errors import ConfigError
from difference_feedback.runs.sections import Data

GOOD = {"question": "Which?", "answer": "red"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layout")
    for color in COLORS:
        picture(color).save(folder / f"{color}.png")
    write_animation(folder / "film.webp")
    (folder / "film.mp4").write_bytes((folder / "film.webp").read_bytes())
    return folder


def load(folder: Path, *rows: Any, **settings: Any) -> LoadedData:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_data(Data(path=str(path), instruction="", video_frames=3, **settings))


def colors(loaded: LoadedData) -> list[list[str]]:
    names = {color: name for name, color in COLORS.items()}
    return [[names[image.getpixel((5, 5))] for image in question.images] for question in loaded.questions()]


@pytest.mark.parametrize(
    "name",
    [
        *("Image", "IMAGE_PATH", "image-path", "imagePath", "Image File", "img_path", "imgs", "jpg", "picture"),
        *("image_1", "image_bytes", "file_name", "path"),
    ],
)
def test_a_column_of_images_is_known_by_many_names(folder: Path, name: str) -> None:
    value = base64_of("red") if "bytes" in name else "red.png"
    loaded = load(folder, {"Question": "Which?", name: value, "ANSWER": "red"})
    assert colors(loaded) == [["red"]]
    assert loaded.layout.fields["image"] == (name,)
    assert loaded.layout.unused == ()


@pytest.mark.parametrize(
    "names",
    [("image1", "image2"), ("image", "image_2"), ("img_1", "img_2"), ("Image 1", "Image 2"), ("Image", "image2")],
)
def test_several_columns_of_images_are_in_order(folder: Path, names: tuple[str, str]) -> None:
    row = {names[1]: "blue.png", names[0]: "red.png", **GOOD}
    assert colors(load(folder, row)) == [["red", "blue"]]
    assert colors(load(folder, row | {"question": "<image 2> or <image 1>?"})) == [["blue", "red"]]


@pytest.mark.parametrize("name", ["path", "file_name", "video_file", "Video"])
def test_a_column_of_videos_is_known_by_many_names(folder: Path, name: str) -> None:
    loaded = load(folder, {**GOOD, name: "film.mp4"}, {**GOOD, "question": "<image>\nWhich?", name: "film.mp4"})
    assert [question.question for question in loaded.questions()] == [
        "<image><image><image>Which?",
        "<image><image><image>\nWhich?",
    ]


def test_frames_are_a_video_and_their_marks_may_be_images(folder: Path) -> None:
    frames = ["red.png", "blue.png", "green.png", "yellow.png"]
    assert colors(load(folder, {**GOOD, "frames": frames})) == [[frames[i][:-4] for i in spread(4, 3)]]
    row = {**GOOD, "video": frames[:2], "question": "<image> or <image>?"}
    assert colors(load(folder, row)) == [["red", "blue"]]


@pytest.mark.parametrize("end", ["gif", "jfif", "ppm", "jp2", "avif", "PNG", "heic"])
def test_every_kind_of_image_is_known_where_any_file_may_stand(folder: Path, end: str) -> None:
    if end != "heic":  # which is not read, and so listed
        picture("red").save(folder / f"any.{end}", "JPEG" if end == "jfif" else None)
    loaded = load(folder, {**GOOD, "file_name": f"any.{end}"}, {**GOOD, "file_name": "blue.png"})
    assert len(loaded.dataset) + len(loaded.problems) == 2
    assert [problem.field for problem in loaded.problems] == ["image"] * (end == "heic")
    assert all(len(sizes) == 1 for sizes in loaded.sizes)
    two = load(folder, {**GOOD, "image": f"any.{end};blue.png"})
    assert len(two.problems or two.sizes[0]) == (1 if end == "heic" else 2)


def test_a_file_whose_name_has_no_end_is_like_those_of_the_other_rows(folder: Path) -> None:
    (folder / "000123").write_bytes((folder / "red.png").read_bytes())
    rows = [{**GOOD, "file_name": "000123"}, {**GOOD, "file_name": "blue.png"}]
    assert colors(load(folder, *rows)) == [["red"], ["blue"]]
    assert load(folder, rows[0]).layout.media_like == ("file_name",)


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ({"image": "red.png", "frames": 32}, ["red"]),
        ({"image": "red.png", "clip": 0.31}, ["red"]),
        ({"image": 12345, "image_path": "red.png"}, ["red"]),
        ({"images": 1, "image_1": "red.png"}, ["red"]),
        ({"images": 0}, []),
        ({"image": {"bytes": None, "path": None}}, []),
        ({"image": [None]}, None),
        ({"image": 7}, None),
        ({"image": ["red.png", None]}, None),
    ],
)
def test_numbers_and_holes_in_columns_of_images(folder: Path, row: dict[str, Any], shown: list[str] | None) -> None:
    loaded = load(folder, {**GOOD, **row})
    assert [problem.field for problem in loaded.problems] == ["image"] * (shown is None)
    assert colors(loaded) == ([] if shown is None else [shown])


def test_a_path_of_windows_is_found(folder: Path) -> None:
    (folder / "below").mkdir()
    picture("red").save(folder / "below" / "a.png")
    assert colors(load(folder, {**GOOD, "image": r"below\a.png"})) == [["red"]]


def test_an_image_that_is_the_id_of_another_row_is_that_rows(folder: Path) -> None:
    options = {"A": "ant", "B": "bee", "answer": "A", "question": "Which?"}
    rows = [{"index": 1, "image": base64_of("red"), **options}, {"index": 1000001, "image": "1", **options}]
    loaded = load(folder, *rows, {"index": 1000002, "image": "2", **options})
    assert colors(loaded) == [["red"], ["red"]]
    assert [problem.line for problem in loaded.problems] == [3]


def test_a_column_that_looks_like_images_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load(folder, {**GOOD, "scan": "red.png", "level": 1})
    assert loaded.layout.unused == ("scan", "level")
    assert loaded.layout.media_like == ("scan",)
    load_data(Data(path=str(folder / "rows.jsonl")))
    assert "scan" in capsys.readouterr().err
    assert load(folder, {**GOOD, "level": 1}).warnings == []
    assert load(folder, {**GOOD, "image": "red.png", "image_id": 7}).warnings == []


@pytest.mark.parametrize("extra", ["messages", "conversations", "chosen", "hint", "prompt"])
def test_one_row_or_an_empty_column_changes_no_form(folder: Path, extra: str) -> None:
    rows: list[dict[str, Any]] = [dict(GOOD) for _ in range(20)]
    for also in ([{**GOOD, extra: None}], [{**GOOD, extra: None} for _ in range(30)]):
        loaded = load(folder, *rows, *also)
        assert loaded.layout.form.name == "plain"
        assert len(loaded.dataset) == 20 + len(also)
    conversation = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "x"}]
    table = pa.Table.from_pylist(
        [*rows, {"messages": conversation}],
        pa.schema([("question", pa.string()), ("answer", pa.string()), ("messages", pa.array([conversation]).type)]),
    )
    pq.write_table(table, folder / "mixed.parquet")
    loaded = read_data(Data(path=str(folder / "mixed.parquet"), instruction=""))
    assert loaded.dataset["answer"][:] == ["red"] * 20 + ["x"]


def test_the_vision_set_of_mmmu_pro_asks_in_its_image(folder: Path) -> None:
    row = {"id": "a", "image": base64_of("red"), "options": "['ant', 'bee']", "answer": "B", "subject": "Art"}
    loaded = load(folder, row)
    assert loaded.layout.form.name == "mmmu-pro"
    assert loaded.questions()[0].question == "<image>Answer the question in the image.\nA. ant\nB. bee"


@pytest.mark.parametrize("name", ["query", "problem_text", "frage"])
def test_no_question_is_replaced_by_the_picture(folder: Path, name: str) -> None:
    row = {
        "id": 1,
        "image": "red.png",
        "options": ["ant", "bee"],
        "answer": "A",
        "subject": "x",
        name: "How many ants?",
    }
    if name == "query":
        assert load(folder, row).questions()[0].question == "<image>How many ants?\nA. ant\nB. bee"
    elif name == "frage":
        with pytest.raises(ConfigError, match=r"data\.columns\.question"):
            load(folder, row)
    columns = {"question": name}
    assert load(folder, row, columns=columns).questions()[0].question == "<image>How many ants?\nA. ant\nB. bee"


def test_ids_that_name_images_are_told_from_the_whole_file(folder: Path) -> None:
    rows = [{**GOOD, "question": f"Question {i}?", "id": f"image-{i % 400}"} for i in range(700)]
    names = load(folder, *rows).dataset["id"][:]
    assert len(set(names)) == 700
    assert names[400] == "image-0-2"
    twice = load(folder, *rows[:400], *rows[:400])  # the rows themselves, not other questions about their images
    assert len(twice.dataset) == len(twice.problems) == 400


def test_ids_that_name_images_do_not_cost_rows(folder: Path) -> None:
    rows = [{**GOOD, "id": f"image-{i // 2}"} for i in range(40)]
    names = load(folder, *rows).dataset["id"][:]
    assert names[:4] == ["image-0", "image-0-2", "image-1", "image-1-2"]
    assert len(set(names)) == 40
    few = load(folder, *({**GOOD, "id": i} for i in range(40)), {**GOOD, "id": 3})
    assert [(problem.line, problem.field) for problem in few.problems] == [(41, "id")]


@pytest.mark.parametrize("tools", [None, {}, [], "null", "[]", "{}", 0])
def test_empty_tools_are_none(folder: Path, tools: Any) -> None:
    assert len(load(folder, {**GOOD, "tools": tools}).dataset) == 1
    assert [problem.field for problem in load(folder, {**GOOD, "tools": [{"name": "x"}]}).problems] == ["tools"]


def test_a_history_is_not_dropped(folder: Path) -> None:
    assert [p.field for p in load(folder, {**GOOD, "history": [["a", "b"]]}).problems] == ["history"]
    assert load(folder, {**GOOD, "history": []}).problems == []


@pytest.mark.parametrize(
    "value",
    [
        {"from": ["human", "gpt"], "value": ["hi", 7]},
        [{"from": "human", "value": "hi"}, {"from": "gpt", "value": 7}],
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": 7.0}],
        json.dumps({"from": ["human", "gpt"], "value": ["hi", "7"]}),
    ],
)
def test_conversations_hold_numbers_and_lists(folder: Path, value: Any) -> None:
    [question] = load(folder, {"conversations": value}).questions()
    assert (question.question, question.answer) == ("hi", "7")
    [question] = load(
        folder, {"conversations": [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": [1, 2]}]}
    ).questions()
    assert question.answer == "[1, 2]"


def test_answers_of_any_column_type_are_texts(folder: Path) -> None:
    columns = {
        "decimal": (pa.array([Decimal("1.50"), Decimal("2.00")]), ["1.50", "2"]),
        "single": (pa.array([0.1, 3.0], pa.float32()), ["0.1", "3"]),
        "double": (pa.array([0.1, 1e-7]), ["0.1", "1e-07"]),
        "bool": (pa.array([True, False]), ["True", "False"]),
        "bytes": (pa.array([b"red", "grün".encode()]), ["red", "grün"]),
        "list": (pa.array([[1.5, 2.0], [3.0]]), ["[1.5, 2]", "3"]),
    }
    for array, wanted in columns.values():
        pq.write_table(pa.table({"question": ["a", "b"], "answer": array}), folder / "types.parquet")
        assert read_data(Data(path=str(folder / "types.parquet"))).dataset["answer"][:] == wanted


def test_images_in_two_places_are_listed(folder: Path) -> None:
    parts = [{"type": "image", "image": "red.png"}, {"type": "text", "text": "Which?"}]
    row = {"messages": [{"role": "user", "content": parts}], "solution": "x"}
    assert colors(load(folder, row)) == [["red"]]
    assert colors(load(folder, row | {"images": ["red.png"]})) == [["red"]]
    [problem] = load(folder, row | {"images": ["blue.png", "green.png"]}).problems
    assert problem.field == "image"


def test_a_part_of_a_set_keeps_its_form_where_all_its_questions_are_in_the_picture(folder: Path) -> None:
    row = {"problem_version": "Vision Only", "question": "", "question_type": "multi-choice", "image": "red.png"}
    loaded = load(folder, *(row | {"answer": answer} for answer in "AB"))
    assert loaded.layout.form.name == "mathverse"
    assert [question.question for question in loaded.questions()] == ["<image>Answer the question in the image."] * 2
