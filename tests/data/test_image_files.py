"""Images from outside: every mode and size ends as 8-bit RGB within the limits, or in a refusal with its remedy."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from difference_feedback.data.image_files import open_image
from difference_feedback.errors import DataError


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_a_plain_image_is_left_as_it_is(tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
    opened = open_image(saved(picture, tmp_path / "a.png"))
    assert opened.notes == ()
    assert np.array_equal(np.asarray(opened.image), np.asarray(picture))


@pytest.mark.parametrize(
    ("mode", "color", "file", "expected"),
    [
        ("L", 128, "a.png", (128, 128, 128)),
        ("1", 1, "a.png", (255, 255, 255)),
        ("RGBA", (255, 0, 0, 0), "a.png", (255, 255, 255)),
        ("RGBA", (255, 0, 0, 255), "a.png", (255, 0, 0)),
        ("LA", (0, 0), "a.png", (255, 255, 255)),
        ("I;16", 65535, "a.png", (255, 255, 255)),
        ("I;16", 32896, "a.png", (128, 128, 128)),
        ("CMYK", (0, 255, 255, 0), "a.tif", (255, 0, 0)),
        ("P", 0, "a.gif", (0, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, color: object, file: str, expected: tuple) -> None:
    image = Image.new(mode, (40, 40), color)
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 255, 255])
    opened = open_image(saved(image, tmp_path / file)).image
    assert opened.mode == "RGB"
    assert opened.getpixel((20, 20)) == expected


def test_a_transparent_palette_is_put_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (40, 40), 0)
    image.putpalette([9, 9, 9, 200, 0, 0])
    opened = open_image(saved(image, tmp_path / "a.png", transparency=0))
    assert opened.image.getpixel((5, 5)) == (255, 255, 255)
    assert opened.notes == ("transparent areas made white",)


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "blue", "green")]
    opened = open_image(saved(frames[0], tmp_path / "a.gif", save_all=True, append_images=frames[1:]))
    assert opened.image.getpixel((5, 5)) == (255, 0, 0)
    assert opened.notes == ("first frame of 3",)


def test_a_camera_s_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    opened = open_image(saved(Image.new("RGB", (60, 40)), tmp_path / "a.jpg", exif=exif))
    assert opened.image.size == (40, 60)


@pytest.mark.parametrize("file", ["a.jpg", "a.png"])
def test_fifty_megapixels_are_scaled_down(tmp_path: Path, file: str) -> None:
    opened = open_image(saved(Image.new("RGB", (10_000, 5_000), "red"), tmp_path / file), max_pixels=1_000_000)
    width, height = opened.image.size
    assert 900_000 < width * height <= 1_000_000
    assert width / height == pytest.approx(2, rel=0.01)
    assert opened.notes == ("scaled down from 10000 x 5000",)
    assert opened.image.getpixel((100, 100))[0] > 250


def test_a_small_image_is_scaled_up_to_the_processor_s_minimum(tmp_path: Path) -> None:
    opened = open_image(saved(Image.new("RGB", (40, 7)), tmp_path / "a.png"), min_side=28)
    assert opened.image.size == (160, 28)
    assert opened.notes == ("scaled up from 40 x 7",)


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ((1, 1), "1 x 1 pixels are too few"),
        ((2, 500), "give the original image"),
        ((4, 900), "crop the image"),
        ((13_000, 12_000), "pixels.*scale"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(tmp_path: Path, size: tuple[int, int], says: str) -> None:
    with pytest.raises(DataError, match=says):
        open_image(saved(Image.new("1", size), tmp_path / "a.png"))


def test_a_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    path = saved(Image.new("1", (30_000, 30_000)), tmp_path / "bomb.png")
    assert path.stat().st_size < 1_000_000
    with pytest.raises(DataError, match=r"pixels.*scale"):
        open_image(path)


def test_files_that_are_no_whole_image_are_refused(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)).save(whole, "JPEG")
    (tmp_path / "half.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (tmp_path / "text.png").write_text("convert it to PNG or JPEG")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, says in {
        "half.jpg": "copy it again",
        "text.png": "convert it to PNG or JPEG",
        "empty.png": "convert it to PNG or JPEG",
    }.items():
        with pytest.raises(DataError, match=says):
            open_image(tmp_path / name)
    with pytest.raises(DataError, match="no file"):
        open_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="no file"):
        open_image(tmp_path)
    with pytest.raises(DataError, match="floating-point"):
        open_image(Image.new("F", (40, 40)))
