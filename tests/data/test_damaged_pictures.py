"""Damage in images and films: listed when rows are loaded, or a warning and a grey image when they are used."""

import base64
import io
import json
import unicodedata
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.forms import encoded, picture, write_animation
from PIL import Image
from typer.testing import CliRunner

from difference_feedback.cli import app
from difference_feedback.data.dataset import LoadedData, load_data
from difference_feedback.data.image_files import measure_image, open_image
from difference_feedback.data.video import count_frames, frame_of, spread
from difference_feedback.errors import DataError
from difference_feedback.runs.sections import Data

GOOD = {"question": "What?", "answer": "red"}
FRAMES = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 50, 3), dtype=np.uint8)) for i in range(4)]


def load(folder: Path, *rows: Any) -> LoadedData:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (*rows, GOOD)))
    return load_data(Data(path=str(path), instruction=""))


def saved(kind: str, frames: int = 1, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    more = {"save_all": True, "append_images": FRAMES[1:frames]} if frames > 1 else {}
    FRAMES[0].save(buffer, kind, **more, **settings)
    return buffer.getvalue()


FILES = {
    **{kind: saved(kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "ICO", "TGA", "DDS")},
    **{f"{kind} frames": saved(kind, 4) for kind in ("GIF", "WEBP", "TIFF", "PNG", "MPO")},
    "lzw": saved("TIFF", compression="tiff_lzw"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's
@pytest.mark.parametrize("kind", FILES)
def test_damage_raises_nothing_but_a_data_error(kind: str) -> None:
    rng = np.random.default_rng(7)
    for i in range(40):
        raw = bytearray(FILES[kind])
        if i % 2:
            raw = raw[: rng.integers(1, len(raw))]
        else:
            for place in rng.integers(0, min(len(raw), 200 if i % 4 else len(raw)), 5):
                raw[place] = rng.integers(0, 256)
        for use in (measure_image, lambda data: open_image(data, tolerant=True), lambda data: frame_of(data, 1)):
            with suppress(DataError):
                use(bytes(raw))


def film(path: Path, codec: str = "mpeg4", frames: int = 60, times: list[int] | None = None, **options: str) -> Path:
    """A film; the brightness of frame `i` is `20 + 3 * i`. With `times`, frames are shown at these hundredths."""
    from fractions import Fraction

    import av

    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = 12
        if times:
            stream.codec_context.time_base = Fraction(1, 100)
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 + 3 * i, np.uint8), format="rgb24")
            if times:
                frame.pts, frame.time_base = times[i], Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video", "libx264"])
@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi", "flv", "ts", "mpg", "mov", "uneven.mp4", "uneven.mkv"])
def test_frames_are_those_of_their_numbers(tmp_path: Path, codec: str, kind: str) -> None:
    av = pytest.importorskip("av")
    if kind == "flv" and codec != "libx264":
        codec = "flv1" if "flv1" in av.codecs_available else codec
    times = [4 * i + 200 * (i > 20) + 300 * (i > 50) for i in range(60)] if "uneven" in kind else None
    try:
        path = film(tmp_path / f"a.{kind}", codec, times=times)
    except (av.FFmpegError, ValueError) as error:
        pytest.skip(f"FFmpeg does not write this: {error}")
    for source in (path, path.read_bytes()):
        assert count_frames(source) == 60
        for index in spread(60, 7):
            frame = frame_of(source, index)
            assert frame.is_exact
            assert np.asarray(frame.image.convert("L")).mean() == pytest.approx(20 + 3 * index, abs=2)


def test_films_that_are_cut_off_or_damaged(tmp_path: Path) -> None:
    pytest.importorskip("av")
    raw = bytearray(film(tmp_path / "whole.mp4", movflags="faststart").read_bytes())
    (tmp_path / "cut.mp4").write_bytes(raw[: len(raw) * 2 // 3])
    start, end = len(raw) // 3, len(raw) * 2 // 3
    (tmp_path / "middle.mp4").write_bytes(raw[:start] + bytes(end - start) + raw[end:])
    raw[-150:] = bytes(150)
    (tmp_path / "end.mp4").write_bytes(raw)
    rows = [{**GOOD, "video": f"{name}.mp4"} for name in ("cut", "end", "middle", "whole")]
    loaded = load(tmp_path, *rows)
    assert [(problem.line, problem.field) for problem in loaded.problems] == [(1, "video"), (2, "video")]
    middle, whole, _ = loaded.questions()
    with pytest.warns(RuntimeWarning, match='line 3, "video"'):
        images = list(middle.images)
    light = [np.asarray(image.convert("L")).mean() for image in images]
    wanted = [np.asarray(image.convert("L")).mean() for image in whole.images]
    assert light[0] == pytest.approx(wanted[0], abs=1)
    assert light[-1] == pytest.approx(wanted[-1], abs=1)
    assert [image.size for image in images] == [(64, 48)] * 8


def test_animations_that_are_damaged_are_listed(tmp_path: Path) -> None:
    for name, data in (("a.gif", FILES["GIF frames"]), ("a.tiff", FILES["TIFF frames"]), ("a.png", FILES["PNG"])):
        for part in (2, 3):
            (tmp_path / f"{part}{name}").write_bytes(data[: len(data) * (part - 1) // part])
    names = [path.name for path in sorted(tmp_path.iterdir())]
    rows = [{**GOOD, "video": name} for name in names]
    rows += [{**GOOD, "image": name} for name in names if not name.endswith("gif")]  # its first frame is whole
    loaded = load(tmp_path, *rows)
    assert [problem.line for problem in loaded.problems] == list(range(1, len(rows) + 1))


def test_damage_after_loading_ends_no_run_but_a_lost_file_does(tmp_path: Path) -> None:
    for name in ("a.webp", "b.gif", "c.png"):
        (write_animation if name != "c.png" else lambda path: picture("red").save(path))(tmp_path / name)
    rows = [{**GOOD, "image": "c.png"}, {**GOOD, "video": "b.gif"}, {**GOOD, "image": "a.webp"}]
    loaded = load(tmp_path, *rows)
    (tmp_path / "c.png").write_bytes(encoded("red")[:40])
    (tmp_path / "b.gif").write_bytes(b"GIF89a")
    (tmp_path / "a.webp").write_bytes(b"RIFF")
    for question, sizes in zip(loaded.questions(), loaded.sizes, strict=True):
        if sizes:
            with pytest.warns(RuntimeWarning, match=r"rows\.jsonl, line \d"):
                images = list(question.images)
            assert [(image.height, image.width) for image in images] == sizes
    (tmp_path / "c.png").unlink()
    with pytest.raises(DataError, match="line 1"):
        loaded.questions()[0].images[0]


def test_odd_cells_are_listed_and_nothing_more(tmp_path: Path) -> None:
    odd: list[Any] = [{"bytes": 5}, {"bytes": True}, {"bytes": [137, 80]}, {"path": 5}, "\ud800.png", "a\0b", [[]], 3.5]
    rows = [{**GOOD, field: value} for value in odd for field in ("image", "video")]
    loaded = load(tmp_path, *rows)
    assert [problem.line for problem in loaded.problems] == list(range(1, len(rows) + 1))
    "".join(map(str, loaded.problems)).encode()
    huge = load(tmp_path, {**GOOD, "question": f"<image {'9' * 5000}> {'<image 7>' * 2000}"})
    assert [problem.field for problem in huge.problems] == ["question"]


def test_places_of_images_and_frames(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for i in range(12):
        Image.new("RGB", (40, 40), (20 * i,) * 3).save(tmp_path / "frames" / f"f{i}.png")
    picture("red").save(tmp_path / unicodedata.normalize("NFD", "é.png"))
    write_animation(tmp_path / "a.gif", frames=3)
    names = [f"frames/f{i}.png" for i in (0, 2, 10)]
    inline = [{"type": "video", "video": names}, {"type": "text", "text": "What?"}]
    rows = [
        {**GOOD, "video": "frames"},
        {"messages": [{"role": "user", "content": inline}], "solution": "x"},
        {**GOOD, "video": "a.gif", "question": "<image>\nWhat?"},
        {**GOOD, "image": unicodedata.normalize("NFC", "é.png")},
        {**GOOD, "image": {"bytes": base64.b64encode(encoded("red")).decode(), "path": None}},
    ]
    light = [
        [image.convert("L").getpixel((20, 20)) for image in load(tmp_path, row).questions()[0].images] for row in rows
    ]
    assert light[0] == [20 * i for i in spread(12, 8)]
    assert light[1] == [0, 40, 200]
    assert [len(of_row) for of_row in light[2:]] == [3, 1, 1]


def test_the_check_decodes_the_rows_that_it_shows(tmp_path: Path) -> None:
    raw = bytearray(saved("JPEG", quality=95))
    raw[len(raw) // 2 : -20] = bytes(len(raw) - len(raw) // 2 - 20)
    (tmp_path / "a.jpg").write_bytes(raw)
    raw = bytearray(FILES["PNG"])
    raw[len(raw) // 2 : len(raw) // 2 + 50] = bytes(50)
    (tmp_path / "b.png").write_bytes(raw)
    rows = [{**GOOD, "image": "b.png"}, GOOD]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = tmp_path / "page.html"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = CliRunner().invoke(app, ["data", "check", str(tmp_path / "rows.jsonl"), "--html", str(page)])
    assert result.exit_code == 0, result.output
    assert 'line 1, "image"' in result.output
    assert page.is_file()
    result = CliRunner().invoke(app, ["data", "check", str(tmp_path / "rows.jsonl"), "--html", str(tmp_path / "no/p")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "no" / "p").is_file(), "folders of an output are made"
