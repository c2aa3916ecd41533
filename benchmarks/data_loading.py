"""Time and memory of loading questions on images: rows of 1.5-megapixel JPEG and RGBA PNG files, made here.

    python benchmarks/data_loading.py [--rows 20000] [--kind jsonl|parquet|saved] [--folder /tmp/somewhere]

The target is 30 s and 300 MB for 20,000 rows of files. The images are links to a few files of their own, so the disk
holds some hundred megabytes; `parquet` and `saved` hold every image, some 2 MB a row.
"""

import argparse
import io
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

from difference_feedback.data.dataset import load_data
from difference_feedback.runs.sections import Data

DIFFERENT = 20  # files of each kind
SECONDS, MEGABYTES = 30.0, 300.0


def make_images(folder: Path) -> list[Path]:
    """JPEG and RGBA PNG files of 1500 x 1000 pixels."""
    rng = np.random.default_rng(0)
    files = []
    for i in range(DIFFERENT):
        coarse = Image.fromarray(rng.integers(0, 256, (100, 150, 3), dtype=np.uint8))
        image = coarse.resize((1500, 1000), Image.Resampling.BICUBIC)
        files += [folder / f"{i}.jpg", folder / f"{i}.png"]
        image.save(files[-2], quality=90)
        image.convert("RGBA").save(files[-1], compress_level=1)
    return files


def rows_of(files: list[Path], count: int) -> Iterator[dict[str, Any]]:
    for i in range(count):
        yield {
            "id": i,
            "question": f"How many dots are in picture {i}?",
            "answer": str(i % 7),
            "image": files[i % len(files)],
        }


def make_set(folder: Path, kind: str, count: int) -> Path:
    """A data set of this kind; its path."""
    files = make_images(folder)
    if kind == "jsonl":
        (folder / "links").mkdir()
        with (folder / "rows.jsonl").open("w") as file:
            for row in rows_of(files, count):
                link = folder / "links" / f"{row['id']}{row['image'].suffix}"
                link.hardlink_to(row["image"])
                file.write(json.dumps(row | {"image": f"links/{link.name}"}) + "\n")
        return folder / "rows.jsonl"
    text = datasets.Value("string")
    features = datasets.Features({"id": text, "question": text, "answer": text, "image": datasets.Image()})
    blobs = {file: file.read_bytes() for file in files}

    def rows() -> Iterator[dict[str, Any]]:
        for row in rows_of(files, count):
            yield row | {"id": str(row["id"]), "image": {"bytes": blobs[row["image"]], "path": None}}

    dataset = datasets.Dataset.from_generator(rows, features, cache_dir=str(folder / "cache"))
    dataset.save_to_disk(folder / "saved") if kind == "saved" else dataset.to_parquet(folder / "rows.parquet")
    return folder / ("saved" if kind == "saved" else "rows.parquet")


def peak() -> float:
    """The largest memory of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--kind", choices=["jsonl", "parquet", "saved"], default="jsonl")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--path", type=Path, help="a set that was made before; the first process makes it")
    options = parser.parse_args()
    if options.path is None:  # a process of its own loads, so that the making is not measured
        import subprocess

        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            path = make_set(Path(folder), options.kind, options.rows)
            command = [sys.executable, __file__, "--path", str(path), "--rows", str(options.rows)]
            return subprocess.run(command, check=False).returncode
    load_data(Data(path=str(options.path), limit=10))
    before, start = peak(), time.perf_counter()
    loaded = load_data(Data(path=str(options.path)))
    seconds, growth = time.perf_counter() - start, peak() - before
    print(f"{len(loaded.dataset)} rows in {seconds:.1f} s, {growth:.0f} MB more memory")
    start = time.perf_counter()
    questions = loaded.questions()
    lengths = [size for of_row in loaded.sizes for size in of_row]
    print(f"questions and {len(lengths)} sizes in {time.perf_counter() - start:.1f} s")
    start = time.perf_counter()
    for question in questions[:20]:
        io.BytesIO(question.images[0].tobytes())
    print(f"an image opened in {(time.perf_counter() - start) / 20 * 1000:.0f} ms")
    return int(seconds > SECONDS or growth > MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
