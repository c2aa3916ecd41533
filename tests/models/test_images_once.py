"""Pictures are processed once, and what the processors give is the same bits as without it."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import NAMES, mixed_rows, picture
from PIL import Image, ImageDraw
from transformers import BatchFeature, Qwen2VLImageProcessor
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_processing_utils import BaseImageProcessor

from difference_feedback.data.conversations import fill_images
from difference_feedback.models import images_once as module
from difference_feedback.models.images_once import images_once
from difference_feedback.models.processor import load_processor

COUNTS = (0, 2, 1, 3)
"""Images of rows, the first one without any."""


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    return type(one) is type(other) and bool(one == other)


def check_equal(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not equal(one[name], other[name])] == []


@pytest.fixture
def processed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The pixels of every picture that an image processor really works on."""
    pictures, process = [], TorchvisionBackend.process_image

    def noted(self: Any, image: Image.Image, *args: Any, **kwargs: Any) -> Any:
        pictures.append(image.tobytes())
        return process(self, image, *args, **kwargs)

    monkeypatch.setattr(TorchvisionBackend, "process_image", noted)
    return pictures


@pytest.fixture(autouse=True)
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_layouts", {})


def calls_of_a_step(processor: Any, counts: tuple[int, ...]) -> Iterator[Any]:
    """As TRL and a repair model call: rows of groups, without and with tensors, in another order, and each alone."""
    prompts, images = mixed_rows(counts)
    group = [*range(len(counts)), *range(len(counts)), 0]
    prompts, images = [prompts[i] for i in group], [images[i] for i in group]
    filled = [fill_images(prompt, of_row) for prompt, of_row in zip(prompts, images, strict=True)]
    yield processor.apply_chat_template(filled, add_generation_prompt=True, tokenize=True, return_dict=True)
    texts = processor.apply_chat_template(prompts, add_generation_prompt=True, tokenize=False)
    for rows in (group, group[::-1], group[1:4], *([i] for i in group)):
        shown = [images[i] for i in rows]
        yield processor(
            text=[texts[i] for i in rows], images=shown if any(shown) else None, padding=True, return_tensors="pt"
        )
    flat = [image for of_row in images for image in of_row]
    yield processor.image_processor(images=flat, return_tensors="pt")
    yield processor.image_processor(flat, return_tensors="np")


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_the_same_bits(checkpoint: Callable[[str], Path], name: str) -> None:
    processor = load_processor(str(checkpoint(name)))
    plain = list(calls_of_a_step(processor, COUNTS))
    with images_once():
        for _ in range(2):  # the second time from the memory alone
            for one, other in zip(plain, calls_of_a_step(processor, COUNTS), strict=True):
                check_equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_processed_once(checkpoint: Callable[[str], Path], name: str, processed: list[bytes]) -> None:
    processor = load_processor(str(checkpoint(name)))
    rows = [[picture(i, 70 + 10 * i, 60)] for i in (1, 2, 1, 2, 1, 3, 3)]
    with images_once():  # the first call with given settings tries the processor
        processor.image_processor(rows, return_tensors="pt")
        processor.image_processor(rows)
    del processed[:]
    processor.image_processor(rows, return_tensors="pt")
    assert len(processed) == 7
    del processed[:]
    with images_once():
        processor.image_processor(rows, return_tensors="pt")
        processor.image_processor([[image.copy() for image in row] for row in rows[::-1]])
        with images_once():
            processor.image_processor(images=rows[:1], return_tensors="pt")
    assert len(processed) == 3
    assert BaseImageProcessor.__call__ is module._process
    assert module._memory is None


def small(kind: type = Qwen2VLImageProcessor, **settings: Any) -> Any:
    return kind(size={"shortest_edge": 28 * 28, "longest_edge": 36 * 14 * 14}, **settings)


class OfTheBatch(Qwen2VLImageProcessor):
    """What it makes of a picture depends on the others of the call."""

    def _preprocess(self, images: Any, **kwargs: Any) -> BatchFeature:
        output = super()._preprocess(images, **kwargs)
        output["pixel_values"] = output["pixel_values"] - output["pixel_values"].mean()
        return output


class Random(Qwen2VLImageProcessor):
    def _preprocess(self, images: Any, **kwargs: Any) -> BatchFeature:
        output = super()._preprocess(images, **kwargs)
        output["pixel_values"] = output["pixel_values"] + torch.rand(())
        return output


def test_a_processor_whose_rows_depend_on_each_other_gets_them_together() -> None:
    rows = [[picture(1)], [picture(2)], [picture(1)]]
    plain = small(OfTheBatch)(rows, return_tensors="pt")
    with images_once():
        check_equal(plain, small(OfTheBatch)(rows, return_tensors="pt"))
        drawn = [small(Random)(rows, return_tensors="pt")["pixel_values"] for _ in range(2)]
    assert not torch.equal(*drawn)


def test_settings_and_what_is_shown_decide() -> None:
    image = picture(1)
    with images_once():
        one = small()([[image]], return_tensors="pt")
        check_equal(one, small()([[image]], return_tensors="pt"))
        assert not torch.equal(one["pixel_values"], small(do_normalize=False)([[image]])["pixel_values"])
        assert not torch.equal(one["pixel_values"], small()([[image]], do_normalize=False)["pixel_values"])
        ImageDraw.Draw(image).rectangle((0, 0, 20, 20), fill="red")  # in place
        changed = small()([[image]], return_tensors="pt")
    check_equal(changed, small()([[image]], return_tensors="pt"))
    assert not torch.equal(one["pixel_values"], changed["pixel_values"])


def test_a_caller_may_change_what_it_gets() -> None:
    with images_once():
        first = small()([[picture(1)], [picture(1)]], return_tensors="pt")
        first["pixel_values"].zero_()
        second = small()([[picture(1)], [picture(1)]], return_tensors="pt")
    assert second["pixel_values"].abs().sum() > 0


@pytest.mark.parametrize(
    "images",
    [
        [[Image.new("P", (60, 60))], [Image.new("P", (60, 60))]],
        [[picture(1).convert("RGBA")], [picture(1)]],
        [[np.zeros((60, 60, 3), np.uint8)], [np.zeros((60, 60, 3), np.uint8)]],
        [torch.zeros(3, 60, 60, dtype=torch.uint8)] * 2,
        picture(1),
        [picture(1)],
    ],
    ids=["palette", "transparent", "arrays", "tensors", "alone", "flat"],
)
def test_images_of_other_kinds_go_through_as_before(images: Any) -> None:
    plain = small()(images, return_tensors="pt")
    with images_once():
        check_equal(plain, small()(images, return_tensors="pt"))
        check_equal(plain, small()(images=images, return_tensors="pt"))


def test_errors_are_the_processors_own() -> None:
    with images_once(), pytest.raises(ValueError, match="absolute aspect ratio"):
        small()([[picture(1)], [Image.new("RGB", (28 * 300, 28))]], return_tensors="pt")
    assert module._memory is None


def test_blocks_that_overlap_share_a_memory(processed: list[bytes]) -> None:
    rows = [[picture(1)], [picture(2)]]
    first, second = images_once(), images_once()
    first.__enter__()
    plain = small()(rows, return_tensors="pt")
    second.__enter__()
    first.__exit__(None, None, None)
    del processed[:]
    check_equal(plain, small()(rows, return_tensors="pt"))
    assert processed == []
    second.__exit__(None, None, None)
    small()(rows, return_tensors="pt")
    assert len(processed) == 2


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, processed: list[bytes]) -> None:
    rows = [[picture(i)] for i in range(6)]
    size = sum(value.nbytes for value in small()(rows[:1], return_tensors="pt").values())
    monkeypatch.setattr(module, "_LIMIT", 2 * size)
    with images_once():
        plain = small()(rows, return_tensors="pt")
        assert module._memory is not None
        assert 0 < module._memory.size <= 2 * size
        tried = len(processed)
        check_equal(plain, small()(rows, return_tensors="pt"))
        assert len(processed) > tried


def test_threads_share_a_block() -> None:
    rows = [[picture(i % 3)] for i in range(9)]
    plain, outputs = small()(rows, return_tensors="pt"), []
    with images_once():
        threads = [
            threading.Thread(target=lambda: outputs.append(small()(rows, return_tensors="pt"))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(outputs) == 4
    for output in outputs:
        check_equal(plain, output)
