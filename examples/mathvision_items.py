"""The starter set of items to annotate: published wrong answers to MathVision, drawn evenly by `repair collect`.

    python examples/mathvision_items.py FOLDER --output examples/mathvision_starter
    difference-feedback annotate examples/mathvision_starter

FOLDER holds `testmini.jsonl`, the images and `responses/*.jsonl`, prepared from MATH-Vision (see `mathvision_pairs.py`
for the source). Responses on which the published verdict and the project's rule differ are left out. Images are copied
as they are, once for each question. Questions whose image is larger than `--largest-image` bytes are left out, so that
the set stays small.
"""

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from difference_feedback.cli import app
from difference_feedback.judges.rules import grade
from difference_feedback.runs.jsonl import read_jsonl, write_jsonl

DRAWING = ["--items", "120", "--per-question", "2", "--min-words", "8", "--seed", "0"]


def make_items(folder: Path, output: Path, largest_image: int) -> None:
    """Write `items.jsonl` and its images to `output`, which must not hold repairs."""
    rows = [row.values for row in read_jsonl(folder / "testmini.jsonl")[0]]
    rows = [row for row in rows if (folder / row["image"]).stat().st_size <= largest_image]
    paths = {row["id"]: folder / row["image"] for row in rows}
    with tempfile.TemporaryDirectory() as made:
        questions = Path(made) / "questions.jsonl"
        write_jsonl(questions, rows)
        responses = Path(made) / "responses.jsonl"
        write_jsonl(responses, agreed(folder, {row["id"]: row for row in rows}))
        sources = [str(questions), f"data.image_root={folder.resolve()}", "-r", str(responses)]
        app(["repair", "collect", *sources, *DRAWING, "-o", made], standalone_mode=False)
        items = [row.values for row in read_jsonl(Path(made) / "items.jsonl")[0]]
    (output / "images").mkdir(parents=True, exist_ok=True)
    for item in items:
        original = paths[item["id"].partition("-")[0]]
        item["image"] = [f"images/{original.name}"]
        shutil.copyfile(original, output / item["image"][0])
    write_jsonl(output / "items.jsonl", items)


def agreed(folder: Path, questions: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The responses on which the published verdict and the project's rule agree."""
    rows = [row.values for path in sorted(folder.glob("responses/*.jsonl")) for row in read_jsonl(path)[0]]
    return [
        row
        for row in rows
        if (question := questions.get(row["id"]))
        and grade(row["response"], question["answer"], question["options"]).correct == row["correct"]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, default=Path("mathvision_starter"))
    parser.add_argument("--largest-image", type=int, default=100_000)
    options = parser.parse_args()
    make_items(options.folder, options.output, options.largest_image)


if __name__ == "__main__":
    main()
