"""Large and hostile files take neither the memory nor the time of the machine. Measured in processes of their own."""

import base64
import io
import json
import random
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from data.test_image_limits import chunk
from PIL import Image

pytestmark = pytest.mark.faults

MEASURED = """
import resource, sys
from pathlib import Path
{before}
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
{code}
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) // 1024)
"""


def megabytes(code: str, before: str, *words: object) -> int:
    """The memory by which a process grows that runs `before`, and then `code` with `words` as its `sys.argv[1:]`."""
    script = MEASURED.format(before=before, code=code)
    command = [sys.executable, "-W", "ignore", "-c", script, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


def test_a_small_file_of_endless_pixels_takes_no_memory(tmp_path: Path) -> None:
    side, packer = 12_000, zlib.compressobj(1)
    row = b"\0" + bytes(4 * side)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = side.to_bytes(4) * 2 + bytes([8, 6, 0, 0, 0])
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    Image.new("RGB", (side, side), "red").save(tmp_path / "a.jpg")
    use = "\ntry: open_image(Path(sys.argv[1]))\nexcept DataError: assert sys.argv[1].endswith('png')"
    names = (
        "from difference_feedback.data.image_files import open_image\nfrom difference_feedback.errors import DataError"
    )
    for name in ("a.png", "a.jpg"):
        assert megabytes(use, names, tmp_path / name) < 60


def test_masks_of_many_long_pairs_take_steady_memory(tmp_path: Path) -> None:
    rng = random.Random(0)
    words = [f"word{i}" for i in range(2000)]

    def answers(count: int) -> Path:
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as file:
            for i in range(count):
                wrong = rng.choices(words, k=1000)
                repair = [rng.choice(words) if rng.random() < 0.01 else word for word in wrong]
                file.write(json.dumps({"id": i, "wrong": " ".join(wrong), "repaired": " ".join(repair)}) + "\n")
        return path

    use = (
        "\nfrom typer.testing import CliRunner\n"
        "result = CliRunner().invoke(app, ['mask', sys.argv[1], '-o', sys.argv[2], '--html', sys.argv[3]])\n"
        "assert result.exit_code == 0, result.output"
    )
    page, rows = tmp_path / "page.html", tmp_path / "out.jsonl"
    names = "from difference_feedback.cli import app\nimport difference_feedback.report.mask_page"
    few, many = (megabytes(use, names, answers(count), rows, page) for count in (300, 3000))
    assert many < few + 60
    assert len(rows.read_text().splitlines()) == 3000
    assert page.stat().st_size < 20_000_000
    assert "<b>200</b> are shown" in page.read_text()


def test_a_report_of_many_examples_and_steps_takes_steady_memory(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    side = {"tokens": ["a ", "b "] * 30, "mask": [True, False] * 30}

    def run(count: int, steps: int) -> Path:
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / "config.yaml").write_text("kind: train\n")
        with (folder / "examples.jsonl").open("w") as file:
            for i in range(count):
                row = {"id": str(i), "question": "q", "images": [url], "wrong": side, "repair": side}
                file.write(json.dumps(row) + "\n")
        with (folder / "metrics.jsonl").open("w") as file:
            file.writelines(json.dumps({"step": i, "reward": i % 7, "kl": 0.1}) + "\n" for i in range(steps))
        return folder

    use = "\nwrite_report(Path(sys.argv[1]))"
    names = "from difference_feedback.report.page import write_report"
    few, many = (megabytes(use, names, run(*numbers)) for numbers in ((250, 1000), (2000, 200_000)))
    assert many < few + 150, "as many as 400 examples of 240 kB are held to choose from"
    page = tmp_path / "2000" / "report.html"
    assert page.stat().st_size < 20_000_000
    assert "200 of 2,000 examples" in page.read_text()
