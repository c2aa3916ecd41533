"""A step of the host opens and processes each picture once, with the same updates as when it does so for every row."""

import contextlib
import copy
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trl_world
from architectures import picture
from PIL import Image
from transformers.image_processing_backends import TorchvisionBackend

from difference_feedback.data import pictures
from difference_feedback.data.dataset import load_data
from difference_feedback.models import generate, images_once
from difference_feedback.models.load import load_model
from difference_feedback.models.processor import load_processor
from difference_feedback.repair.local import LocalRepairer
from difference_feedback.runs.sections import Data
from difference_feedback.trl import DFGRPOTrainer, image_rows

STEPS = 2


def run(checkpoint: Path, folder: Path, data: Any, **changes: Any) -> Any:
    """Two steps of two questions with four answers each. Every answer that is even is right, and half the repairs."""
    model, processor = load_model(str(checkpoint))
    trainer = DFGRPOTrainer(
        copy.deepcopy(model),
        trl_world.parity,
        trl_world.config(folder, max_steps=STEPS, num_repairs=2, max_completion_length=6, **changes),
        train_dataset=data.for_training(),
        processing_class=processor,
        repairer=LocalRepairer(model, load_model(str(checkpoint))[1], max_new_tokens=6),
    )
    trainer.train()
    return trainer


@pytest.fixture
def data(tmp_path: Path) -> Any:
    """Questions on one, two and three pictures of several sizes."""
    rows = []
    for i in range(2 * STEPS):
        names = [f"{i}_{j}.png" for j in range(1 + i % 3)]
        for j, name in enumerate(names):
            picture(10 * i + j, 56 + 14 * (i % 2), 84).save(tmp_path / name)
        rows.append({"question": "<image>" * len(names) + f"{i}?", "images": names, "answer": str(i)})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_data(Data(path=str(tmp_path / "rows.jsonl")))


def test_updates_are_the_same_bits(
    checkpoint: Callable[[str], Path], tmp_path: Path, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LLaVA-OneVision cuts the picture of a row into tiles where it is the only one."""
    name = "llava_onevision"
    once = run(checkpoint(name), tmp_path / "once", data)
    for module in (generate, image_rows):
        monkeypatch.setattr(module, "images_once", contextlib.nullcontext)
    plain = run(checkpoint(name), tmp_path / "plain", data)
    assert sum(row.get("df/requested", 0) for row in once.state.log_history) > 0
    for key, value in trl_world.weights_of(plain.model).items():
        assert torch.equal(value, trl_world.weights_of(once.model)[key]), key


def test_a_picture_is_opened_and_processed_once_a_step(
    checkpoint: Callable[[str], Path], tmp_path: Path, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two micro-batches for each generation, for which TRL takes the rows again."""
    counts: Counter[str] = Counter()
    known = {Image.open(path).tobytes() for path in tmp_path.glob("*.png")}
    process, open_image = TorchvisionBackend.process_image, pictures.open_image

    def processed(self: Any, image: Image.Image, *args: Any, **kwargs: Any) -> Any:
        counts["processed"] += image.tobytes() in known  # not those on which a processor is tried
        return process(self, image, *args, **kwargs)

    def opened(*args: Any, **kwargs: Any) -> Any:
        counts["opened"] += 1
        return open_image(*args, **kwargs)

    processor = load_processor(str(checkpoint("qwen2_5_vl")))
    with images_once.images_once():  # the first call with given settings tries the processor
        for kind in (None, "pt"):
            processor.image_processor([[picture(99)]], return_tensors=kind)
    monkeypatch.setattr(TorchvisionBackend, "process_image", processed)
    monkeypatch.setattr(pictures, "open_image", opened)
    run(checkpoint("qwen2_5_vl"), tmp_path / "run", data, gradient_accumulation_steps=2, per_device_train_batch_size=4)
    assert counts == {"opened": len(known), "processed": len(known)}
    assert images_once._memory is None
