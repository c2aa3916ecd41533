"""A data set's image is opened once, is never an old one, and takes no more memory than its limit."""

import base64
import copy
import json
import os
import threading
import time
import warnings
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
from data.forms import encoded, picture
from datasets.fingerprint import Hasher
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from torch.utils.data import DataLoader

from difference_feedback.data import pictures as module
from difference_feedback.data.bounded_memory import BoundedMemory
from difference_feedback.data.dataset import LoadedData, load_data
from difference_feedback.runs.sections import Data


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., LoadedData]:
    def loaded(*images: str) -> LoadedData:
        rows = [{"question": f"{i}?", "image": image, "answer": str(i)} for i, image in enumerate(images)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return load_data(Data(path=str(tmp_path / "rows.jsonl")))

    return loaded


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is decoded."""
    names, decode = [], module.open_image

    def noted(source: object, **settings: object) -> object:
        names.append(source.name if isinstance(source, Path) else "bytes")
        return decode(source, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "open_image", noted)
    return names


def pixels(image: Image.Image) -> bytes:
    return np.asarray(image).tobytes()


def test_rows_questions_and_steps_share_an_opened_image(
    load: Callable[..., LoadedData], tmp_path: Path, opened: list[str]
) -> None:
    picture("red").save(tmp_path / "red.png")
    picture("blue").save(tmp_path / "blue.jpg")
    inside = base64.b64encode(encoded("green", "PNG")).decode()
    data = load("red.png", "blue.jpg", "red.png", inside)
    rows = data.for_training()
    for _ in range(3):  # as the micro-batches of a generation do
        batch = rows[:]["images"]
        for question, images in zip(data.questions(), batch, strict=True):
            assert pixels(question.images[0]) == pixels(images[0])
    assert sorted(opened) == ["blue.jpg", "bytes", "red.png"]


def test_what_is_drawn_on_an_image_stays_with_it(load: Callable[..., LoadedData], tmp_path: Path) -> None:
    picture("red").save(tmp_path / "red.png")
    [question] = load("red.png").questions()
    before = pixels(question.images[0])
    for _ in range(2):
        ImageDraw.Draw(question.images[0]).rectangle((0, 0, 9, 9), fill="black")
    assert pixels(question.images[0]) == before


@pytest.mark.parametrize("how", ["written", "moved", "same time and size", "in place"])
def test_a_file_that_is_replaced_is_opened_anew(load: Callable[..., LoadedData], tmp_path: Path, how: str) -> None:
    path = tmp_path / "a.bmp"  # all of a size
    picture("red").save(path)
    [question] = load("a.bmp").questions()
    state = path.stat()
    red = pixels(question.images[0])
    if how == "written":
        picture("blue").save(path)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    elif how == "in place":  # as `rsync --inplace --times` does
        time.sleep(0.02)  # longer than a tick of the file system's clock
        path.write_bytes(encoded("blue", "BMP"))
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        assert (path.stat().st_ino, path.stat().st_size) == (state.st_ino, state.st_size)
    else:
        picture("blue").save(tmp_path / "b.bmp")
        if how == "same time and size":
            os.utime(tmp_path / "b.bmp", ns=(state.st_atime_ns, state.st_mtime_ns))
        (tmp_path / "b.bmp").replace(path)
    assert pixels(question.images[0]) != red
    assert pixels(question.images[0]) == pixels(picture("blue"))


def test_damage_is_reported_each_time(load: Callable[..., LoadedData], tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture("red").save(path)
    [question] = load("a.png").questions()
    assert question.images[0]
    data = path.read_bytes()
    path.write_bytes(data[:-30])
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="line 1"):
            assert question.images[0].size == (48, 36)
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(question.images[0]) == pixels(picture("red"))


def test_the_memory_stays_in_its_process(load: Callable[..., LoadedData], tmp_path: Path) -> None:
    """Copies travel without it, and a data set's fingerprint does not depend on what was opened."""
    picture("red").save(tmp_path / "red.png")
    data = load("red.png", "red.png")
    rows = data.for_training()
    before, print_before = len(ForkingPickler.dumps(data.opener)), Hasher.hash(data.opener)
    image = rows[0]["images"][0]
    assert data.opener.memory.size > 0
    assert len(ForkingPickler.dumps(data.opener)) == before
    assert Hasher.hash(data.opener) == print_before
    for copied in (ForkingPickler.loads(ForkingPickler.dumps(data.opener)), copy.deepcopy(data.opener)):
        assert copied.memory.size == 0
        assert copied.memory.limit == data.opener.memory.limit
    for batch in DataLoader(rows, batch_size=2, num_workers=2, collate_fn=list):
        assert [pixels(row["images"][0]) for row in batch] == [pixels(image)] * 2


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12)), max_size=40))
def test_a_bounded_memory_keeps_what_was_used_last(steps: list[tuple[int, int]]) -> None:
    """Against a plain list of what was used, in its order."""
    memory: BoundedMemory[int] = BoundedMemory(10)
    kept: list[tuple[int, int]] = []  # key and size, the last used one last
    for key, size in steps:
        entry = next((entry for entry in kept if entry[0] == key), None)
        if size % 2 == 0 and entry:
            assert memory.get(key) == entry[1]
            kept = [*(other for other in kept if other != entry), entry]
            continue
        memory.put(key, size, size)
        kept = [other for other in kept if other[0] != key] + ([(key, size)] if size <= 10 else [])
        while sum(size for _, size in kept) > 10:
            kept.pop(0)
        assert memory.size == sum(size for _, size in kept)
    assert {key: memory.get(key) for key in range(6)} == {key: dict(kept).get(key) for key in range(6)}


def test_threads_may_share_a_memory() -> None:
    memory: BoundedMemory[int] = BoundedMemory(100)

    def use(start: int) -> None:
        for i in range(2000):
            memory.put((start + i) % 37, i, i % 13)
            memory.get(i % 37)

    threads = [threading.Thread(target=use, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert memory.size == sum(size for _, size in memory._values.values()) <= 100
