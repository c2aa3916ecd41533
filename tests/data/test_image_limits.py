"""Small files with endless pixels are refused by their headers, and formats that start programs are not tried."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from data.forms import encoded
from PIL import Image

from difference_feedback.data import image_files
from difference_feedback.data.dataset import load_data
from difference_feedback.data.image_files import measure_image, open_image
from difference_feedback.data.image_limits import REFUSED_BYTES, decoded_bytes, open_header
from difference_feedback.data.video import count_frames, frame_of
from difference_feedback.errors import DataError
from difference_feedback.runs.sections import Data

TOO_LARGE = "take [0-9,]+ MB of memory, more than 537 MB: scale the image down"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    """A PNG of this size that lacks nearly all of its pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(256)) if colour == 3 else b""
    parts = [chunk(b"IHDR", header), palette, extra, chunk(b"IDAT", zlib.compress(bytes(100))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(width: int, height: int, **tags: int) -> bytes:
    """A TIFF of this size without pixels; `tags` are further ones, by number."""
    entries = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1, 273: 8, 278: height, 279: 10}
    entries |= {int(name.removeprefix("tag")): value for name, value in tags.items()}
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + bytes(4)


LARGE = {
    "RGBA": png(12_000, 12_000, colour=6),
    "RGB": png(12_000, 12_000),
    "palette": png(12_000, 12_000, colour=3),
    "grey with transparency": png(9_000, 9_000, colour=4),
    "16 bits": png(12_000, 12_000, depth=16, colour=0),
    "TIFF": tiff(12_000, 12_000),
    "TIFF with a large tile": tiff(64, 64, tag322=40_000, tag323=40_000, tag324=8, tag325=10),
    "PPM": b"P6 12000 12000 255\n" + bytes(100),
    "BMP": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 1000, 0, 0, 54, 40, 12_000, 12_000, 1, 24, 0, 0, 1, 1, 0, 0),
    "GIF": b"GIF89a" + struct.pack("<HHBBB", 12_000, 12_000, 0x80, 0, 0) + encoded("red", "GIF")[13:],
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_large_image_is_refused_by_its_header_in_every_form(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(LARGE[kind])
    for source in (tmp_path / "a", LARGE[kind]):
        for use in (measure_image, open_image):
            with pytest.raises(DataError, match=TOO_LARGE):
                use(source)
    with pytest.raises(DataError, match=TOO_LARGE):
        count_frames(tmp_path / "a")


@pytest.mark.parametrize(
    ("width", "height", "colour", "fits"),
    [(11_500, 11_500, 2, True), (11_700, 11_500, 2, False), (8_100, 8_100, 6, True), (8_200, 8_200, 6, False)],
)
def test_the_limit_goes_by_channels(width: int, height: int, colour: int, fits: bool) -> None:
    image = open_header(io.BytesIO(png(width, height, colour=colour)))
    assert (decoded_bytes(image) <= REFUSED_BYTES) == fits


def test_a_large_photograph_is_decoded_small(tmp_path: Path) -> None:
    Image.new("RGB", (12_000, 12_000), "red").save(tmp_path / "a.jpg", quality=10)
    opened = open_image(tmp_path / "a.jpg", max_pixels=100_000)
    assert opened.image.size == (316, 316)
    assert np.abs(np.subtract(opened.image.getpixel((0, 0)), (255, 0, 0))).max() <= 8
    with pytest.raises(DataError, match="MB of memory, more than"):
        open_image(tmp_path / "a.jpg", max_pixels=150_000_000)


@pytest.mark.parametrize("name", ["EPS", "ICO", "ICNS", "PSD", "PDF", "TGA", "WMF", "FITS", "PCX"])
def test_other_formats_are_not_tried(name: str, tmp_path: Path) -> None:
    starts = {
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        "PSD": b"8BPS" + struct.pack(">HxxxxxxHIIHH", 1, 3, 40, 40, 8, 3) + bytes(9000),
        "WMF": b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<hhhhH", 0, 0, 40, 40, 72) + bytes(100),
        "FITS": b"SIMPLE  =                    T" + bytes(50),
    }
    buffer = io.BytesIO()
    if name not in starts:
        Image.new("RGBA" if name in ("ICO", "ICNS") else "RGB", (64, 64)).save(buffer, name)
    (tmp_path / "a.png").write_bytes(starts.get(name) or buffer.getvalue())
    with pytest.raises(DataError, match="none of PNG, JPEG"):
        open_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_texts_and_profiles_that_unpack_to_gigabytes(kind: bytes) -> None:
    packed = zlib.compress(bytes(50_000_000))
    data = b"a\0\1\0\0\0" + packed if kind == b"iTXt" else b"a\0\0" + packed
    with pytest.raises(DataError, match="too large"):
        measure_image(png(40, 40, extra=chunk(kind, data)))


@pytest.mark.parametrize(
    ("mode", "info"), [("RGBA", {}), ("LA", {}), ("P", {"transparency": 0}), ("RGB", {"transparency": (1, 2, 3)})]
)
@pytest.mark.parametrize("band", [1, 200, 64 * 48, 2**22])
def test_bands_give_the_pixels_of_the_whole(mode: str, info: dict, band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 4, (48, 64, 4), dtype=np.uint8)
    image = Image.fromarray(noise, "RGBA").convert(mode)
    image.info |= info
    opaque = image.convert("RGBA")
    whole = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")
    monkeypatch.setattr(image_files, "_BAND", band)
    assert open_image(image).image.tobytes() == whole.tobytes()
    assert image.info == info, "the caller's own image stays as it is"


def test_16_bits_by_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (48, 64), dtype=np.uint16)
    monkeypatch.setattr(image_files, "_BAND", 200)
    image = open_image(Image.fromarray(values)).image
    assert (np.asarray(image)[..., 0] == values // 257).all()


def test_animations_are_limited_by_all_their_pixels(tmp_path: Path) -> None:
    frame = encoded("red", "GIF")
    start = frame.index(b",", 13)
    many = b"GIF89a" + struct.pack("<HHBBB", 3000, 3000, 0x80, 0, 0) + bytes(6) + frame[start:-1] * 600 + b";"
    (tmp_path / "a.gif").write_bytes(many)
    for use in (count_frames, lambda path: frame_of(path, 599)):
        with pytest.raises(DataError, match="600 frames of 3000 x 3000 pixels take too long"):
            use(tmp_path / "a.gif")
    assert frame_of(tmp_path / "a.gif", 2).is_exact


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{film}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfilm.mp4\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:1/film.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile film.mp4\n",
        "ffconcat version 1.0\nfile {film}\n",
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a.ffconcat"])
def test_a_film_that_lists_others_opens_none(text: str, name: str, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "film.mp4"), "w") as film:
        stream = film.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 64
        for _ in range(5):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        film.mux(stream.encode())
    assert count_frames(tmp_path / "film.mp4") == 5
    (tmp_path / name).write_text(text.format(film=tmp_path / "film.mp4"))
    with pytest.raises(DataError):
        count_frames(tmp_path / name)


def test_rows_with_such_images_are_listed(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(LARGE["RGBA"])
    (tmp_path / "a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    (tmp_path / "good.png").write_bytes(encoded("red"))
    rows = [{"question": "q", "answer": "1", "image": name} for name in ("good.png", "large.png", "a.eps", "good.png")]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    loaded = load_data(Data(path=str(tmp_path / "rows.jsonl"), instruction=""))
    assert (loaded.lines, [problem.line for problem in loaded.problems]) == ([1, 4], [2, 3])


def test_what_pillow_refuses_is_not_decoded_as_a_film() -> None:
    """FFmpeg reads PNG files, too, and unpacks what stands in them without a limit."""
    bomb = png(50, 50, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(20_000_000))))
    for read in (count_frames, lambda data: frame_of(data, 0), measure_image, open_image):
        with pytest.raises(DataError, match="too large"):
            read(bomb)
