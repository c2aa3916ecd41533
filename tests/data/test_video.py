"""Videos become frames, evenly spread: films by PyAV, animations by Pillow, and lists of frame files."""

import json
from pathlib import Path
from typing import Any

import pytest
from data.forms import picture, write_animation, write_film
from PIL import Image

from difference_feedback.data.dataset import LoadedData, load_data
from difference_feedback.data.video import spread
from difference_feedback.runs.sections import Data

ROW = {"question": "What happens?", "answer": "it brightens"}


def load(folder: Path, *rows: Any, **settings: Any) -> LoadedData:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_data(Data(path=str(path), instruction="", **settings))


def brightness(image: Image.Image) -> int:
    return image.convert("L").getpixel((20, 20))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("count", "wanted", "places"),
    [(24, 3, [0, 12, 23]), (3, 8, [0, 1, 2]), (9, 1, [4]), (8, 8, list(range(8))), (100, 2, [0, 99])],
)
def test_frames_are_spread_evenly(count: int, wanted: int, places: list[int]) -> None:
    assert spread(count, wanted) == places


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_an_animation_becomes_its_frames(tmp_path: Path, name: str) -> None:
    write_animation(tmp_path / name, frames=12)
    [question] = load(tmp_path, {**ROW, "video": name}, video_frames=4).questions()
    assert question.question == "<image><image><image><image>What happens?"
    assert [brightness(image) for image in question.images] == pytest.approx([0, 80, 140, 220], abs=4)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_film_becomes_its_frames(tmp_path: Path, name: str) -> None:
    pytest.importorskip("av")
    write_film(tmp_path / name, frames=24)
    loaded = load(tmp_path, {**ROW, "video": name, "question": "Look: <video> What happens?"}, video_frames=5)
    [question] = loaded.questions()
    assert question.question == "Look: <image><image><image><image><image> What happens?"
    expected = [10 * place for place in spread(24, 5)]
    assert [brightness(image) for image in question.images] == pytest.approx(expected, abs=6)  # lossy, 16..235
    assert [image.size for image in question.images] == [(48, 36)] * 5
    assert loaded.sizes == [[(36, 48)] * 5]


def test_frames_are_scaled_as_images_are(tmp_path: Path) -> None:
    write_animation(tmp_path / "a.gif", frames=3)
    loaded = load(tmp_path, {**ROW, "video": "a.gif"}, max_pixels=600)
    [question] = loaded.questions()
    assert [(image.height, image.width) for image in question.images] == loaded.sizes[0]
    assert all(height * width <= 600 for height, width in loaded.sizes[0])


def test_frame_files_and_images_stand_at_their_marks(tmp_path: Path) -> None:
    names = []
    for i in range(10):
        names.append(f"{i}.png")
        Image.new("RGB", (40, 40), (20 * i,) * 3).save(tmp_path / names[-1])
    picture("red").save(tmp_path / "red.png")
    row = {**ROW, "question": "Is <image> in <video>?", "image": "red.png", "video": names}
    nested = {**ROW, "videos": [names[:2], names[8:]], "question": "<video> or <video>?"}
    first, second = load(tmp_path, row, nested, video_frames=4).questions()
    assert first.question == "Is <image> in <image><image><image><image>?"
    assert [image.size for image in first.images] == [(48, 36)] + [(40, 40)] * 4
    assert [brightness(image) for image in first.images[1:]] == [0, 60, 120, 180]
    assert second.question == "<image><image> or <image><image>?"
    assert [brightness(image) for image in second.images] == [0, 20, 160, 180]


def test_videos_of_messages(tmp_path: Path) -> None:
    write_animation(tmp_path / "a.gif", frames=3)
    parts = [{"type": "video", "video": "a.gif"}, {"type": "text", "text": "What happens?"}]
    inline = {"messages": [{"role": "user", "content": parts}], "solution": "nothing"}
    swift = {"messages": [{"role": "user", "content": "<video>What?"}], "videos": ["a.gif"], "solution": "nothing"}
    for question in load(tmp_path, inline, swift).questions():
        assert question.question.startswith("<image><image><image>What")
        assert len(question.images) == 3


def test_a_video_that_cannot_be_used_is_listed(tmp_path: Path) -> None:
    pytest.importorskip("av")
    write_film(tmp_path / "whole.mp4")
    (tmp_path / "half.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:500])
    (tmp_path / "text.mp4").write_text("no film")
    write_animation(tmp_path / "a.gif")
    bad = [{**ROW, "video": name} for name in ("half.mp4", "text.mp4", "none.mp4")]
    loaded = load(tmp_path, {**ROW, "video": "a.gif"}, *bad, {**ROW, "video": "a.gif", "question": "<video> <video>?"})
    assert [(problem.line, problem.field) for problem in loaded.problems] == [
        (2, "video"),
        (3, "video"),
        (4, "video"),
        (5, "question"),
    ]
