"""Images are opened when they are needed, and their sizes are known before."""

import json
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
from data.forms import encoded, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from torch.utils.data import DataLoader

from difference_feedback.data.dataset import LoadedData, load_data
from difference_feedback.data.image_files import measure_image, open_image
from difference_feedback.data.pictures import Opener
from difference_feedback.judges.questions import columns_of
from difference_feedback.models.generate import answer_questions
from difference_feedback.models.load import load_model
from difference_feedback.models.prompt_lengths import sizes_of
from difference_feedback.runs.sections import Data


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedData:
    for color in ("red", "blue"):
        picture(color).save(tmp_path / f"{color}.png")
    picture("green").save(tmp_path / "green.jpg")
    rows = [
        {"question": f"{i}?", "image": image, "answer": str(i), "level": i if i % 2 else "high"}
        for i, image in enumerate(["red.png", ["blue.png", "green.jpg"], [], "green.jpg"])
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_data(Data(path=str(tmp_path / "rows.jsonl")))


def test_no_pixel_is_decoded_before_an_image_is_taken(loaded: LoadedData, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: ImageFile.ImageFile) -> None:
        raise AssertionError("pixels are decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    again = load_data(Data(path=loaded.opener.name))
    questions = again.questions()
    assert sizes_of(questions) == again.sizes == [[(36, 48)], [(36, 48), (36, 48)], [], [(36, 48)]]
    assert [len(columns_of(question)["images"]) for question in questions] == [1, 2, 0, 1]
    assert len(again.for_training()) == 4
    with pytest.warns(RuntimeWarning, match="line 1"):  # as of a damaged image
        image = questions[0].images[0]
    assert image.size == (48, 36)


def test_rows_for_trainers_travel_to_other_processes(loaded: LoadedData) -> None:
    rows = loaded.for_training()
    again = ForkingPickler.loads(ForkingPickler.dumps(rows))
    for row, copy in zip(rows, again, strict=True):
        assert [np.asarray(image).tolist() for image in row.pop("images")] == [
            np.asarray(image).tolist() for image in copy.pop("images")
        ]
        assert row == copy
    assert [row["level"] for row in rows] == ["high", 1, "high", 3]
    assert set(rows.column_names) == set(rows[0])
    batches = list(DataLoader(rows, batch_size=2, num_workers=2, collate_fn=list, shuffle=False))  # type: ignore[arg-type]
    assert [row["id"] for batch in batches for row in batch] == rows["id"][:]
    assert [len(row["images"]) for batch in batches for row in batch] == [1, 2, 0, 1]


def test_repeated_rows_open_their_images_once(loaded: LoadedData, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    open_one = Opener.open
    monkeypatch.setattr(Opener, "open", lambda self, picture: opened.append(picture) or open_one(self, picture))
    batch = loaded.for_training()[[1, 1, 1, 3]]
    assert len(opened) == 3
    assert [len(images) for images in batch["images"]] == [2, 2, 2, 1]


MODES = {"PNG": ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"], "JPEG": ["RGB", "L", "CMYK"], "WEBP": ["RGB", "RGBA"]}


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_measured_size_is_that_of_the_opened_image(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(sorted(MODES)))
    mode = data.draw(st.sampled_from(MODES[kind]))
    width, height = data.draw(st.integers(4, 400)), data.draw(st.integers(4, 400))
    limits = {"min_side": data.draw(st.integers(1, 60)), "max_pixels": data.draw(st.integers(300, 100_000))}
    exif = Image.Exif()
    exif[0x0112] = turn = data.draw(st.integers(1, 8))
    path = tmp_path_factory.mktemp("size") / f"a.{kind.lower()}"
    Image.new(mode, (width, height)).save(path, kind, exif=exif)
    measured = measure_image(path, **limits)
    opened = open_image(path, **limits)
    assert opened.image.size == (measured.width, measured.height)
    assert opened.image.mode == "RGB"
    assert opened.notes == measured.notes
    if min(width, height) >= limits["min_side"]:
        assert measured.width * measured.height <= max(limits["max_pixels"], 1)
    upright = (width, height) if turn < 5 else (height, width)
    if min(measured.width, measured.height) >= 20:  # sides are whole pixels
        assert measured.width / measured.height == pytest.approx(upright[0] / upright[1], rel=0.06)
    assert "exif" not in opened.image.info, "a processor would turn it again"


def test_a_rotated_image_shows_what_its_camera_saw(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:10, :10] = 255  # the corner that is top left before it is turned
    corners = {1: (2, 2), 3: (57, 37), 6: (37, 2), 8: (2, 57)}
    for turn, corner in corners.items():
        exif = Image.Exif()
        exif[0x0112] = turn
        Image.fromarray(pixels).save(tmp_path / f"{turn}.png", exif=exif)
        assert open_image(tmp_path / f"{turn}.png").image.getpixel(corner) == (255, 255, 255)


def test_bytes_are_measured_as_files_are(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded("red"))
    assert measure_image(encoded("red")) == measure_image(tmp_path / "a.png") == measure_image(picture("red"))


def test_an_evaluation_opens_the_images_of_a_batch_alone(loaded: LoadedData, monkeypatch: pytest.MonkeyPatch) -> None:
    """All images of a test set at once would not fit into memory."""
    opened: list[int] = []
    at_batches: list[int] = []
    open_one = Opener.open
    monkeypatch.setattr(Opener, "open", lambda self, picture: opened.append(1) or open_one(self, picture))
    model, processor = load_model("nano")
    sample = model.generate
    monkeypatch.setattr(model, "generate", lambda **inputs: at_batches.append(len(opened)) or sample(**inputs))
    answer_questions(model, processor, loaded.questions(), max_new_tokens=2, batch_size=1, seed=0)
    assert at_batches == [0, 1, 2, 4]
