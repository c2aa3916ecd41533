"""Real questions on images: good rows are used, each bad one is listed with line, field and remedy."""

import io
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from difference_feedback.data.dataset import load_data
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.runs.sections import Data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "one.png")
    Image.new("RGBA", (64, 64), (0, 0, 255, 0)).save(tmp_path / "clear.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "pixel.png")
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:1500])
    (tmp_path / "text.png").write_text("no image")
    return tmp_path


def write(folder: Path, *rows: object) -> Data:
    path = folder / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return Data(path=str(path), instruction="")


GOOD = {"question": "How many?", "image": "one.png", "answer": "3"}


def test_rows_become_the_columns_that_trainers_read(folder: Path) -> None:
    data = write(folder, GOOD, {**GOOD, "id": 7, "image": None, "images": ["one.png", "clear.png"], "answer": 5})
    loaded = load_data(data)
    rows = loaded.for_training()
    assert set(rows.column_names) == {"id", "prompt", "images", "answer", "options", "columns"}
    assert (rows[0]["id"], rows[1]["id"], rows[1]["answer"]) == ("line-1", "7", "5")
    assert [part["type"] for part in rows[1]["prompt"][0]["content"]] == ["image", "image", "text"]
    assert [image.size for image in rows[1]["images"]] == [(96, 64), (64, 64)]
    assert rows[1]["images"][1].getpixel((5, 5)) == (255, 255, 255)
    assert not loaded.problems
    assert loaded.notes == {"transparent areas made white": 1}


@pytest.mark.parametrize(
    ("row", "field", "says"),
    [
        ('{"question": "How', None, "JSON"),
        ("[1, 2]", None, "object"),
        ({"image": "one.png", "answer": "3"}, "question", "give the question"),
        ({**GOOD, "question": "  "}, "question", "give the question"),
        ({"question": "How many?", "image": "one.png"}, "answer", "give the answer"),
        ({**GOOD, "answer": {"a": 1}}, "answer", "give a text or a number"),
        ({**GOOD, "image": 3}, "image", "give the path of a file"),
        ({**GOOD, "image": "none.png"}, "image", "give a path relative to"),
        ({**GOOD, "image": "text.png"}, "image", "convert it to PNG or JPEG"),
        ({**GOOD, "image": "half.jpg"}, "image", "copy it again"),
        ({**GOOD, "image": "pixel.png"}, "image", "1 x 1 pixels are too few"),
        ({**GOOD, "options": "A or B"}, "options", "list of texts"),
        (
            {**GOOD, "image": ["one.png", "one.png"], "question": "<image1> or <image3>?"},
            "question",
            "mark each image once",
        ),
    ],
)
def test_a_bad_row_is_listed_and_the_good_ones_are_used(
    folder: Path, row: object, field: str | None, says: str
) -> None:
    printed = io.StringIO()
    loaded = load_data(write(folder, GOOD, row, GOOD), Console(file=printed, width=300))
    assert len(loaded.dataset) == 2
    (problem,) = loaded.problems
    assert (problem.line, problem.field) == (2, field)
    assert says in problem.message
    assert "2 of 3 rows are used, 1 left out" in printed.getvalue()
    assert str(problem) in printed.getvalue()


def test_a_file_without_a_good_row_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match=r'none of 2 rows can be used. line 1, "image".*line 2: '):
        load_data(write(folder, {**GOOD, "image": "none.png"}, "{"))
    with pytest.raises(DataError, match="none of 0 rows"):
        load_data(write(folder))
    with pytest.raises(DataError, match=r"none\.jsonl"):
        load_data(Data(path=str(folder / "none.jsonl")))


def test_image_marks_say_where_the_images_go(folder: Path) -> None:
    two = {**GOOD, "image": ["one.png", "clear.png"], "question": "Is <image2> like <image1> ?"}
    several_in_one = {**GOOD, "question": "Which? <image1> A <image2> B <image3>"}
    first, second = load_data(write(folder, two, several_in_one)).questions()
    assert [part.get("text", "image") for part in first.prompt[0]["content"]] == [
        "Is ",
        "image",
        " like ",
        "image",
        " ?",
    ]
    assert [image.size for image in first.images] == [(64, 64), (96, 64)]
    assert second.question == "Which? <image> A [picture 2] B [picture 3]"
    assert len(second.images) == 1


def test_options_and_the_instruction_stand_below_the_question(folder: Path) -> None:
    rows = [{**GOOD, "options": ["red", "blue"], "answer": "B"}, {**GOOD, "options": ["A", "B"], "answer": "B"}]
    data = write(folder, *rows).model_copy(update={"instruction": "Say it in one word."})
    texts, letters = load_data(data).questions()
    assert texts.question == "<image>How many?\nA. red\nB. blue\nSay it in one word."
    assert letters.question == "<image>How many?\nChoose one of A, B.\nSay it in one word."
    assert texts.options == ("red", "blue")


def test_limit_counts_usable_rows(folder: Path) -> None:
    data = write(folder, {**GOOD, "image": "none.png"}, GOOD, GOOD, GOOD).model_copy(update={"limit": 2})
    assert len(load_data(data).dataset) == 2


def test_a_saved_data_set_with_other_column_names(folder: Path) -> None:
    images = [Image.open(folder / "one.png"), Image.open(folder / "pixel.png")]
    saved = datasets.Dataset.from_dict(
        {"problem": ["How many?", "And now?"], "picture": images, "solution": ["3", "4"]},
        features=datasets.Features(
            {"problem": datasets.Value("string"), "picture": datasets.Image(), "solution": datasets.Value("string")}
        ),
    )
    saved.save_to_disk(folder / "saved")
    columns = {"question": "problem", "image": "picture", "answer": "solution"}
    loaded = load_data(Data(path=str(folder / "saved"), columns=columns))
    assert loaded.dataset["answer"][:] == ["3"]
    assert [problem.line for problem in loaded.problems] == [2]
    with pytest.raises(ConfigError, match=r"no column 'pictures'; it has problem, picture, solution"):
        load_data(Data(path=str(folder / "saved"), columns={**columns, "image": "pictures"}))


def test_a_data_set_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_data(Data(path=str(folder / "nothing")))
