"""A picture's data URL: made once, off the event loop, and by the file itself only where that loses nothing."""

import asyncio
import base64
import hashlib
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from servers.unruly_server import unruly

from difference_feedback.data.bare_jpeg import bare_jpeg
from difference_feedback.data.dataset import load_data
from difference_feedback.data.image_files import open_image
from difference_feedback.judges import picture_urls as module
from difference_feedback.judges.chat import ChatClient, ChatRequest
from difference_feedback.judges.picture_urls import PictureURLs
from difference_feedback.runs.sections import Data, Endpoint

LIMIT = 1_003_520


def noise(seed: int = 0, width: int = 90, height: int = 60, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


def jpeg(image: Image.Image | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image or noise()).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def parts_of(url: str) -> tuple[str, bytes]:
    kind, data = url.removeprefix("data:").split(";base64,")
    return kind, base64.b64decode(data)


def shown(url: str) -> tuple[Any, bytes]:
    return pixels(Image.open(io.BytesIO(parts_of(url)[1])))


def pixels(image: Image.Image) -> tuple[Any, bytes]:
    return image.size, image.convert("RGB").tobytes()


def exif(turn: int) -> Image.Exif:
    record = Image.Exif()
    record[0x0112] = turn
    record[0x010E] = "taken at home"
    return record


def with_segment(marker: int, content: bytes, start: int = 2) -> bytes:
    """A plain JPEG file that has this segment in the place of what is between its start and `start`."""
    segment = bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content
    return jpeg()[:2] + segment + jpeg()[start:]


FILES = {
    "plain": jpeg(),
    "preview": with_segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\2\2at homeat ho", 20),
    "second-preview": with_segment(0xE0, b"JFXX\0\x10at home"),
    "others-segment": with_segment(0xEE, b"at homeat home"),
    "long-adobe": with_segment(0xEE, b"Adobe\0d\0\0\0\0\1at home"),
    "progressive": jpeg(progressive=True, quality=95),
    "grey": jpeg(noise(mode="L")),
    "restarts": jpeg(restart_marker_blocks=2),
    "full-colour": jpeg(subsampling=0),
    "optimised": jpeg(optimize=True),
    "camera": jpeg(exif=exif(1), comment=b"at home", icc_profile=b"at home" * 99, dpi=(300, 300)),
    "followed": jpeg() + b"at home" + jpeg(),
    "as-rgb": jpeg(keep_rgb=True),
}
OTHERS = {
    "turned": jpeg(exif=exif(6)),
    "four-inks": jpeg(noise(mode="CMYK")),
    "scaled-down": jpeg(noise(0, 1200, 900)),
    "scaled-up": jpeg(noise(0, 40, 20)),
}


@pytest.mark.parametrize("as_path", [True, False], ids=["path", "bytes"])
@pytest.mark.parametrize("name", FILES)
def test_an_unchanged_jpeg_is_sent_as_it_is_without_its_metadata(tmp_path: Path, name: str, as_path: bool) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(FILES[name])
    image = open_image(path if as_path else FILES[name]).image
    [url] = PictureURLs(LIMIT).of([image])
    kind, data = parts_of(url)
    assert kind == "image/jpeg"
    assert shown(url) == pixels(image)
    assert b"at home" not in data
    assert len(data) <= len(FILES[name])
    assert not Image.open(io.BytesIO(data)).getexif()


@pytest.mark.parametrize("name", OTHERS)
def test_a_changed_image_is_sent_as_png(name: str) -> None:
    image = open_image(OTHERS[name]).image
    [url] = PictureURLs(LIMIT).of([image])
    assert parts_of(url)[0] == "image/png"
    assert shown(url) == pixels(image)


def test_what_was_drawn_on_an_image_is_sent(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    image, urls = open_image(tmp_path / "a.jpg").image, PictureURLs(LIMIT)
    before = urls.of([image])[0]
    ImageDraw.Draw(image).rectangle((5, 5, 30, 30), fill="red")
    after = urls.of([image])[0]
    assert parts_of(after)[0] == "image/png"
    assert shown(after) == pixels(image)
    assert shown(before) != shown(after)


@pytest.mark.parametrize("replaced", [b"", b"no image", jpeg(noise(1)), jpeg()[:-30], None], ids=str)
def test_a_file_that_is_replaced_is_not_sent(tmp_path: Path, replaced: bytes | None) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg())
    image = open_image(path).image
    path.unlink()
    if replaced is not None:
        path.write_bytes(replaced)
    [url] = PictureURLs(LIMIT).of([image])
    assert parts_of(url)[0] == "image/png"
    assert shown(url) == pixels(image)


def test_png_files_and_scaled_images_keep_their_bytes(tmp_path: Path) -> None:
    """Answers in a cache are named by these bytes."""
    image = noise()
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert parts_of(PictureURLs(LIMIT).of([image])[0]) == ("image/png", buffer.getvalue())
    small = io.BytesIO()
    image.resize((30, 20)).save(small, "PNG")
    (tmp_path / "a.jpg").write_bytes(jpeg(image))
    for source in (image, open_image(tmp_path / "a.jpg").image):
        assert Image.open(io.BytesIO(parts_of(PictureURLs(600).of([source])[0])[1])).size == (30, 20)
    assert parts_of(PictureURLs(600).of([image])[0])[1] == small.getvalue()


@given(st.sampled_from(sorted(FILES)), st.integers(0, 3000), st.integers(0, 255), st.booleans())
def test_damaged_jpegs_are_refused_or_whole(name: str, place: int, value: int, cut: bool) -> None:
    data = FILES[name]
    place %= len(data)
    damaged = data[:place] if cut else data[:place] + bytes([value]) + data[place + 1 :]
    try:
        bare = bare_jpeg(damaged)
    except ValueError:
        return
    assert bare.startswith(b"\xff\xd8")
    assert bare.endswith(b"\xff\xd9")
    assert len(bare) <= len(damaged)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads in which pictures are encoded, one for each time."""
    threads, encode = [], module._encoded

    def noted(*args: Any) -> str:
        threads.append(threading.get_ident())
        time.sleep(0.02)  # so that others come while it is under way
        return encode(*args)

    monkeypatch.setattr(module, "_encoded", noted)
    return threads


def test_threads_that_need_the_same_picture_share_it(encoded: list[int]) -> None:
    urls, images = PictureURLs(LIMIT), [noise(i % 3) for i in range(12)]
    with ThreadPoolExecutor(12) as pool:
        made = list(pool.map(lambda image: urls.of([image]), images))
    assert len(encoded) == 3
    assert made == [PictureURLs(LIMIT).of([image]) for image in images]


def test_an_error_reaches_all_who_wait_and_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> str:
        time.sleep(0.05)
        raise OSError("the disk is full")

    urls = PictureURLs(LIMIT)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_encoded", broken)
        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(urls.of, [noise()]) for _ in range(4)]
            assert [type(future.exception()) for future in futures] == [OSError] * 4
    assert urls.of([noise()]) == PictureURLs(LIMIT).of([noise()])


def asking(images: Any, text: str = "?") -> ChatRequest:
    parts = [{"type": "text", "text": text}, *({"type": "image"} for _ in images)]
    return ChatRequest([{"role": "user", "content": parts}], images)


def test_a_picture_is_encoded_once_for_all_requests_and_off_the_loop(
    tmp_path: Path, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures of a data set are opened anew for every request; the same bytes reach the server."""
    for i in range(2):
        noise(i).save(tmp_path / f"{i}.{'png' if i else 'jpg'}")
    rows = [{"question": f"{i}?", "image": f"{i}.{'png' if i else 'jpg'}", "answer": str(i)} for i in range(2)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    questions = load_data(Data(path=str(tmp_path / "rows.jsonl"))).questions()
    loops, ask_all = [], ChatClient._ask_all

    async def watched(self: ChatClient, *args: Any) -> Any:
        loops.append((threading.get_ident(), asyncio.get_running_loop()))
        return await ask_all(self, *args)

    monkeypatch.setattr(ChatClient, "_ask_all", watched)
    with unruly() as server:
        server.script = ["fine"]
        client = ChatClient(Endpoint(url=server.url, model="m", cache=str(tmp_path / "cache")))
        requests = [asking(question.images, str(i)) for question in questions for i in range(5)]
        answers = client.ask(requests)
        assert [answer.texts for answer in answers] == [["fine"]] * 10
        assert len(encoded) == 2
        again = client.ask(requests)
        assert [answer.cached for answer in again] == [True] * 10
        assert len(encoded) == 2
        sent = {body["messages"][0]["content"][1]["image_url"]["url"] for body in server.bodies}
    assert {loop for loop, _ in loops}.isdisjoint(encoded)
    assert sorted(parts_of(url)[0] for url in sent) == ["image/jpeg", "image/png"]
    assert sorted(map(shown, sent)) == sorted(pixels(question.images[0]) for question in questions)


def test_answers_stay_in_the_cache_where_the_bytes_are_equal(tmp_path: Path) -> None:
    """The key of a PNG is that of earlier releases: a digest of the request with its URLs."""
    client = ChatClient(Endpoint(url="http://127.0.0.1:9/v1", model="m", cache=str(tmp_path / "cache")))
    image = noise()
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    request = asking([image])
    sent = {"url": "http://127.0.0.1:9/v1", "model": "m", "max_tokens": 512, "messages": request.messages}
    sent |= {"images": ["data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()], "n": 1}
    sent |= {"schema": None, "temperature": 0.0, "seed": None, "token_ids": False}
    assert client._encoded(request)[1] == hashlib.sha256(json.dumps(sent, sort_keys=True).encode()).hexdigest()
