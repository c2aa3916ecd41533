"""Rows of every known form, in the columns of the public data sets, and what they must become.

`write_forms(folder)` writes a file of each form, with its images. All rows are our own.
"""

import base64
import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image

from difference_feedback.runs.sections import Data

COLORS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}
SIZE = (48, 36)  # width and height of every image
IMAGE = datasets.Image()


@dataclass(frozen=True)
class Expected:
    """What a row becomes. `images` are the names of their colors, in the order of the prompt."""

    question: str
    answer: str
    images: Sequence[str] = ("red",)
    options: Sequence[str] = ()
    id: str | None = None
    reference: str | None = None
    system: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Some of the columns that reward functions get."""


@dataclass(frozen=True)
class FormFile:
    """A file of one form: the `data` section that names it, its usable rows, and the lines that are left out."""

    data: Data
    rows: Sequence[Expected]
    left_out: Sequence[int] = ()
    form: str | None = None
    """The name under which it is recognised; by default that of the file."""


def picture(color: str) -> Image.Image:
    return Image.new("RGB", SIZE, COLORS[color])


def encoded(color: str, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture(color).save(buffer, kind)
    return buffer.getvalue()


def base64_of(color: str) -> str:
    return base64.b64encode(encoded(color)).decode()


def data_url_of(color: str) -> str:
    return f"data:image/png;base64,{base64_of(color)}"


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], **features: Any) -> Path:
    """A parquet file; `features` are those that cannot be told from the values."""
    dataset = datasets.Dataset.from_list([dict(row) for row in rows])
    for name, feature in features.items():
        dataset = dataset.cast_column(name, feature)
    dataset.to_parquet(path)
    return path


def write_animation(path: Path, frames: int = 12) -> Path:
    """Frame `i` of the animation is grey of the brightness `20 * i`."""
    images = [Image.new("RGB", SIZE, (20 * i,) * 3) for i in range(frames)]
    images[0].save(path, save_all=True, append_images=images[1:], lossless=True)
    return path


def write_film(path: Path, frames: int = 24) -> Path:
    """A film of H.264 or MPEG-4; the brightness of frame `i` is `10 * i`."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((SIZE[1], SIZE[0], 3), 10 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_forms(folder: Path) -> dict[str, FormFile]:
    """Write a file of each form below `folder`, with its images. Returns them by name."""
    for color in COLORS:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        picture(color).save(folder / "images" / f"{color}.png")
    files = {}
    for name, make in _MAKERS.items():
        path = folder / name
        path.mkdir(exist_ok=True)
        files[name] = make(path)
    return files


_MAKERS: dict[str, Callable[[Path], FormFile]] = {}


def _form(make: Callable[[Path], FormFile]) -> Callable[[Path], FormFile]:
    _MAKERS[make.__name__.strip("_")] = make
    return make


def _data(path: Path, **settings: Any) -> Data:
    return Data(path=str(path), instruction="", **settings)


def _beside(path: Path) -> dict[str, str]:
    """Images stand beside the folder of the form."""
    return {"image_root": str(path.parent / "images")}


@_form
def plain(folder: Path) -> FormFile:
    rows = [
        {"id": "a", "question": "What color?", "image": "red.png", "answer": "red"},
        {"id": "b", "question": "<image2> or <image1>?", "image": ["red.png", "blue.png"], "answer": 7, "level": 2},
        {"id": "c", "question": "How much is 2 + 2?", "answer": "4"},
        {"id": "d", "question": "Which?", "image": "green.png", "options": ["red", "green"], "answer": "green"},
    ]
    expected = [
        Expected("<image>What color?", "red", id="a", columns={"answer": "red"}),
        Expected("<image> or <image>?", "7", ["blue", "red"], id="b", columns={"level": 2}),
        Expected("How much is 2 + 2?", "4", [], id="c"),
        Expected("<image>Which?\nA. red\nB. green", "B", ["green"], ["red", "green"], id="d"),
    ]
    return FormFile(_data(write_jsonl(folder / "rows.jsonl", rows), **_beside(folder)), expected)


@_form
def csv_and_images(folder: Path) -> FormFile:
    for color in COLORS:
        picture(color).save(folder / f"{color}.png")
    rows = [
        {"image": "red.png", "question": "What color, please?", "answer": "red"},
        {"image": "red.png;blue.png", "question": "Which two?", "answer": "red and blue"},
        {"image": "", "question": "How much is 1 + 1?", "answer": "2"},
    ]
    write_csv(folder / "questions.csv", rows)
    expected = [
        Expected("<image>What color, please?", "red", id="2"),
        Expected("<image><image>Which two?", "red and blue", ["red", "blue"], id="3"),
        Expected("How much is 1 + 1?", "2", [], id="4"),
    ]
    return FormFile(_data(folder), expected, form="plain")


@_form
def easyr1(folder: Path) -> FormFile:
    rows = [
        {"problem": "<image>Find x.", "images": [{"bytes": encoded("red"), "path": None}], "answer": "3"},
        {"problem": "Find y.", "images": [{"bytes": encoded("blue"), "path": "b.png"}], "answer": "48"},
    ]
    path = write_parquet(folder / "train-00000-of-00001.parquet", rows, images=datasets.List(IMAGE))
    return FormFile(
        _data(path.parent),
        [Expected("<image>Find x.", "3", id="1"), Expected("<image>Find y.", "48", ["blue"], id="2")],
    )


@_form
def verl(folder: Path) -> FormFile:
    rows = [
        {
            "data_source": "hiyouga/geometry3k",
            "prompt": [
                {"role": "system", "content": "Think first."},
                {"role": "user", "content": "<image>Find x."},
            ],
            "images": [{"bytes": encoded(color), "path": None}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": truth},
            "extra_info": {"split": "train", "index": i, "question": "Find x."},
        }
        for i, (color, truth) in enumerate([("red", "3"), ("green", "\\boxed{4}")])
    ]
    expected = [
        Expected("<image>Find x.", "3", id="1", system="Think first.", columns={"ability": "math"}),
        Expected("<image>Find x.", "4", ["green"], id="2", system="Think first."),
    ]
    return FormFile(_data(write_parquet(folder / "train.parquet", rows)), expected)


@_form
def mmpr_tiny(folder: Path) -> FormFile:
    rows = [
        {
            "data_source": "mmpr",
            "prompt": [{"role": "user", "content": "<image>\n<image>\nWhich is red?"}],
            "images": [{"path": "red.png"}, {"path": "blue.png"}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "the first"},
            "extra_info": {"question": "<image>\n<image>\nWhich is red?", "index": 0},
        }
    ]
    path = write_parquet(folder / "mmpr_tiny.parquet", rows)
    expected = [Expected("<image>\n<image>\nWhich is red?", "the first", ["red", "blue"])]
    return FormFile(_data(path, **_beside(folder)), expected, form="verl")


@_form
def conversations(folder: Path) -> FormFile:
    rows: list[dict[str, Any]] = [
        {  # VLM-R1, Clevr
            "id": 0,
            "image": "red.png",
            "conversations": [
                {"from": "human", "value": "<image>What number of cubes are there?"},
                {"from": "gpt", "value": "<think>I count.</think><answer> 0 </answer>"},
            ],
        },
        {  # InternVL
            "id": 1,
            "image": ["red.png", "blue.png"],
            "width_list": [48, 48],
            "height_list": [36, 36],
            "conversations": [
                {"from": "human", "value": "Image-1: <image>\nImage-2: <image>\nWhich is blue?"},
                {"from": "gpt", "value": "Image-2"},
            ],
        },
        {  # LLaVA
            "id": "000000033471",
            "image": "green.png",
            "conversations": [
                {"from": "human", "value": "What color is it?\n<image>"},
                {"from": "gpt", "value": "It is green."},
                {"from": "human", "value": "Why?"},
                {"from": "gpt", "value": "I see it."},
            ],
        },
        {
            "id": "text",
            "conversations": [
                {"from": "system", "value": "Be short."},
                {"from": "human", "value": "How much is 2 + 3?"},
                {"from": "gpt", "value": "5"},
            ],
        },
    ]
    expected = [
        Expected(
            "<image>What number of cubes are there?",
            "0",
            id="0",
            reference="<think>I count.</think><answer> 0 </answer>",
        ),
        Expected("Image-1: <image>\nImage-2: <image>\nWhich is blue?", "Image-2", ["red", "blue"], id="1"),
        Expected("How much is 2 + 3?", "5", [], id="text", system="Be short."),
    ]
    data = _data(write_jsonl(folder / "annotations.jsonl", rows), **_beside(folder))
    return FormFile(data, expected, left_out=[3])


@_form
def ms_swift(folder: Path) -> FormFile:
    rows: list[dict[str, Any]] = [
        {
            "messages": [{"role": "user", "content": "<image>How many objects?"}],
            "images": ["red.png"],
            "solution": "<answer> 3 </answer>",
        },
        {
            "messages": [
                {"role": "system", "content": "Answer in one word."},
                {"role": "user", "content": "<image>What color?"},
                {"role": "assistant", "content": "Blue"},
            ],
            "images": ["blue.png"],
        },
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": data_url_of("green")}},
                        {"type": "text", "text": "And this?"},
                    ],
                }
            ],
            "solution": "green",
        },
        {
            "messages": [{"role": "user", "content": "Search for it."}],
            "tools": [{"name": "search"}],
            "solution": "found",
        },
    ]
    expected = [
        Expected("<image>How many objects?", "3"),
        Expected("<image>What color?", "Blue", ["blue"], system="Answer in one word."),
        Expected("<image>And this?", "green", ["green"]),
    ]
    data = _data(write_jsonl(folder / "train.jsonl", rows), **_beside(folder))
    return FormFile(data, expected, left_out=[4], form="ms-swift")


@_form
def preference(folder: Path) -> FormFile:
    chosen = "The square is red.\n\nFinal answer: red"
    rows = [
        {"image": "red.png", "question": "<image>\nWhat color?", "chosen": chosen, "rejected": "Final answer: blue"},
        {
            "image": "blue.png",
            "question": "Solve it.",
            "chosen": "So \\boxed{\\frac{1}{2}}.",
            "rejected": "\\boxed{2}",
        },
        {"image": "blue.png", "question": "Describe it.", "chosen": "A blue area. " * 20, "rejected": "No."},
    ]
    expected = [
        Expected("<image>\nWhat color?", "red", reference=chosen),
        Expected("<image>Solve it.", "\\frac{1}{2}", ["blue"], reference="So \\boxed{\\frac{1}{2}}."),
    ]
    data = _data(write_jsonl(folder / "mmpr.jsonl", rows), **_beside(folder))
    return FormFile(data, expected, left_out=[3])


@_form
def clevr(folder: Path) -> FormFile:
    rows = [
        {
            "image": {"bytes": encoded("red"), "path": None},
            "problem": "How many items?",
            "solution": "<answer> 3 </answer>",
        }
    ]
    path = write_parquet(folder / "train.parquet", rows, image=IMAGE)
    return FormFile(_data(path), [Expected("<image>How many items?", "3")])


@_form
def geometry3k(folder: Path) -> FormFile:
    rows = [
        {
            "id": 2401,
            "problem_text": "Find $x$.",
            "choices": ["4.0", "5.0", "6.0", "7.0"],
            "answer": "B",
            "image": "red.png",
        }
    ]
    options = ["4.0", "5.0", "6.0", "7.0"]
    expected = [
        Expected("<image>Find $x$.\nA. 4.0\nB. 5.0\nC. 6.0\nD. 7.0", "B", options=options, id="2401"),
    ]
    path = folder / "data.json"
    path.write_text(json.dumps({"problems": rows}))
    return FormFile(_data(path, **_beside(folder)), expected)


@_form
def virl39k(folder: Path) -> FormFile:
    rows = [
        {
            "question": "<image>How long is AB?",
            "answer": "\\boxed{3}",
            "PassRate_32BTrained": 0.5,
            "PassRate_7BBase": 0.25,
            "category": "(GradeSchool) Geometric",
            "source": "Processed",
            "qid": "Processed-1",
            "image": ["red.png"],
        }
    ]
    path = write_parquet(folder / "39Krelease.parquet", rows)
    expected = [Expected("<image>How long is AB?", "3", id="Processed-1", columns={"PassRate_7BBase": 0.25})]
    return FormFile(_data(path, **_beside(folder)), expected)


@_form
def mmk12(folder: Path) -> FormFile:
    rows = [
        {
            "id": f"{i}-a/b?c",
            "question": "<image>\nFind the mass.",
            "answer": answer,
            "subject": "physics",
            "image": {"bytes": encoded("blue", "JPEG"), "path": None},
        }
        for i, answer in enumerate(["$3.5$", "B"])
    ]
    path = write_parquet(folder / "test.parquet", rows, image=IMAGE)
    expected = [
        Expected("<image>\nFind the mass.", answer, ["blue"], id=f"{i}-a/b?c") for i, answer in enumerate(["3.5", "B"])
    ]
    return FormFile(_data(path), expected)


@_form
def mathvision(folder: Path) -> FormFile:
    rows = [
        {
            "id": "4",
            "question": "How many?\n<image1>",
            "options": [],
            "image": "images/4.jpg",
            "decoded_image": {"bytes": encoded("red"), "path": None},
            "answer": "6",
            "solution": None,
            "level": 1,
            "subject": "counting",
        },
        {
            "id": "5",
            "question": "Which one? <image1>",
            "options": ["A", "B", "C"],
            "image": "images/5.jpg",
            "decoded_image": {"bytes": encoded("blue"), "path": None},
            "answer": "C",
            "solution": None,
            "level": 2,
            "subject": "logic",
        },
    ]
    expected = [
        Expected("How many?\n<image>", "6", id="4", columns={"level": 1, "subject": "counting"}),
        Expected("Which one? <image>\nChoose one of A, B, C.", "C", ["blue"], ["A", "B", "C"], id="5"),
    ]
    dataset = datasets.Dataset.from_list(rows).cast_column("decoded_image", IMAGE)
    dataset.save_to_disk(folder / "saved")
    return FormFile(_data(folder / "saved"), expected)


@_form
def mathvista(folder: Path) -> FormFile:
    shared = {"image": "images/1.jpg", "query": "Hint: ...", "metadata": {"split": "testmini", "grade": "daily life"}}
    rows = [
        {
            "pid": "1",
            "question": "When does it reach its peak?",
            "decoded_image": {"bytes": encoded("red"), "path": None},
            "choices": None,
            "unit": "seconds",
            "precision": 1.0,
            "answer": "1.2",
            "question_type": "free_form",
            "answer_type": "float",
            **shared,
        },
        {
            "pid": "2",
            "question": "Is it larger?",
            "decoded_image": {"bytes": encoded("blue"), "path": None},
            "choices": ["yes", "no"],
            "unit": None,
            "precision": None,
            "answer": "no",
            "question_type": "multi_choice",
            "answer_type": "text",
            **shared,
        },
    ]
    expected = [
        Expected(
            "<image>When does it reach its peak?",
            "1.2",
            id="1",
            columns={"unit": "seconds", "precision": 1.0, "answer_type": "float", "answer": "1.2"},
        ),
        Expected(
            "<image>Is it larger?\nA. yes\nB. no",
            "B",
            ["blue"],
            ["yes", "no"],
            id="2",
            columns={"answer": "no", "choices": ["yes", "no"]},
        ),
    ]
    return FormFile(_data(write_parquet(folder / "testmini.parquet", rows, decoded_image=IMAGE)), expected)


@_form
def mathverse(folder: Path) -> FormFile:
    text = "How many degrees is angle A?\nChoices:\nA:30°\nB:60°\nC:90°\nD:120°"
    rows = [
        {
            "sample_index": str(i + 1),
            "problem_index": "1",
            "problem_version": version,
            "question": question,
            "image": {"bytes": encoded("red"), "path": None},
            "answer": answer,
            "question_type": kind,
            "metadata": {"split": "testmini", "source": "Geo170K", "subject": "Plane Geometry", "subfield": "Angle"},
            "query_wo": "Please directly answer.",
            "query_cot": "Please first conduct reasoning.",
            "question_for_eval": text,
        }
        for i, (version, question, answer, kind) in enumerate(
            [
                ("Text Dominant", text, "B", "multi-choice"),
                ("Vision Only", "", "B", "multi-choice"),
                ("Vision Only", "", "5", "free-form"),
            ]
        )
    ]
    options = ["30°", "60°", "90°", "120°"]
    expected = [
        Expected(
            "<image>How many degrees is angle A?\nA. 30°\nB. 60°\nC. 90°\nD. 120°",
            "B",
            options=options,
            id="1",
            columns={"problem_version": "Text Dominant", "question_for_eval": text},
        ),
        Expected("<image>Answer the question in the image.", "B", id="2"),
        Expected("<image>Answer the question in the image.", "5", id="3"),
    ]
    return FormFile(_data(write_parquet(folder / "testmini.parquet", rows, image=IMAGE)), expected)


@_form
def mmstar(folder: Path) -> FormFile:
    rows = [
        {
            "index": i,
            "question": question,
            "image": {"bytes": encoded("red"), "path": None},
            "answer": answer,
            "category": "logical reasoning",
            "l2_category": "diagram reasoning",
            "meta_info": {"source": "MMMU", "split": "val", "image_path": "a.png"},
        }
        for i, (question, answer) in enumerate(
            [
                ("Which color?\nOptions: A: red, B: dark blue, C: green, D: none, of these", "A"),
                ("Which vitamin is in it, A or B, or both? Look at A: the picture.", "B"),
            ]
        )
    ]
    options = ["red", "dark blue", "green", "none, of these"]
    expected = [
        Expected(
            "<image>Which color?\nA. red\nB. dark blue\nC. green\nD. none, of these", "A", options=options, id="0"
        ),
        Expected("<image>Which vitamin is in it, A or B, or both? Look at A: the picture.", "B", id="1"),
    ]
    return FormFile(_data(write_parquet(folder / "val.parquet", rows, image=IMAGE)), expected)


@_form
def mmmu(folder: Path) -> FormFile:
    none: dict[str, None] = dict.fromkeys(f"image_{i}" for i in range(1, 8))

    def image(color: str) -> dict[str, Any]:
        return {"bytes": encoded(color), "path": f"{color}.png"}

    shared = {"explanation": "", "img_type": "['Plots']", "topic_difficulty": "Easy", "subfield": "Art"}
    rows = [
        {
            "id": "validation_Art_1",
            "question": "What is in <image 1>?",
            "options": "['a cat', \"a dog's tail\"]",
            **none,
            "image_1": image("red"),
            "answer": "B",
            "question_type": "multiple-choice",
            **shared,
        },
        {
            "id": "validation_Art_2",
            "question": "Which fits to <image 1>?",
            "options": "['<image 3>', '<image 2>']",
            **none,
            "image_1": image("red"),
            "image_2": image("green"),
            "image_3": image("blue"),
            "answer": "A",
            "question_type": "multiple-choice",
            **shared,
        },
        {
            "id": "validation_Art_3",
            "question": "How many? <image 1>",
            "options": "[]",
            **none,
            "image_1": image("yellow"),
            "answer": "['24/7', '3.429']",
            "question_type": "open",
            **shared,
        },
        {
            "id": "test_Art_4",
            "question": "What is in <image 1>?",
            "options": "['a cat', 'a dog']",
            **none,
            "image_1": image("red"),
            "answer": "?",
            "question_type": "multiple-choice",
            **shared,
        },
    ]
    features = dict.fromkeys(none, IMAGE)
    expected = [
        Expected(
            "What is in <image>?\nA. a cat\nB. a dog's tail",
            "B",
            options=["a cat", "a dog's tail"],
            id="validation_Art_1",
            columns={"question_type": "multiple-choice"},
        ),
        Expected(
            "Which fits to <image>?\nA. <image>\nB. <image>",
            "A",
            ["red", "blue", "green"],
            ["[image 3]", "[image 2]"],
            id="validation_Art_2",
        ),
        Expected("How many? <image>", "24/7", ["yellow"], id="validation_Art_3", columns={"question_type": "open"}),
    ]
    data = _data(write_parquet(folder / "validation.parquet", rows, **features))
    return FormFile(data, expected, left_out=[4])


@_form
def ai2d(folder: Path) -> FormFile:
    rows = [
        {
            "question": "Which is it?",
            "options": ["ant", "bee", "cow"],
            "answer": answer,
            "image": {"bytes": encoded("green"), "path": "a.png"},
        }
        for answer in ("2", "0")
    ]
    text, options = "<image>Which is it?\nA. ant\nB. bee\nC. cow", ["ant", "bee", "cow"]
    expected = [Expected(text, letter, ["green"], options) for letter in ("C", "A")]
    return FormFile(_data(write_parquet(folder / "test.parquet", rows, image=IMAGE)), expected)


@_form
def scienceqa(folder: Path) -> FormFile:
    rows = [
        {
            "image": image,
            "question": "Which is a noun?",
            "choices": ["red", "house"],
            "answer": 1,
            "hint": hint,
            "task": "closed choice",
            "grade": "grade2",
            "subject": "language science",
            "topic": "grammar",
            "category": "words",
            "skill": "nouns",
            "lecture": "",
            "solution": "It is house.",
        }
        for image, hint in [({"bytes": encoded("red"), "path": None}, ""), (None, "Look at the words.")]
    ]
    options = ["red", "house"]
    expected = [
        Expected("<image>Which is a noun?\nA. red\nB. house", "B", options=options, columns={"grade": "grade2"}),
        Expected("Look at the words.\nWhich is a noun?\nA. red\nB. house", "B", [], options),
    ]
    return FormFile(_data(write_parquet(folder / "test.parquet", rows, image=IMAGE)), expected)


@_form
def vlmevalkit(folder: Path) -> FormFile:
    rows = [
        {
            "index": "17",
            "question": "Which color?",
            "hint": "",
            "A": "red",
            "B": "blue",
            "C": "",
            "answer": "A",
            "image": base64_of("red"),
        }
    ]
    path = write_csv(folder / "MMBench.tsv", rows, "\t")
    return FormFile(
        _data(path), [Expected("<image>Which color?\nA. red\nB. blue", "A", options=["red", "blue"], id="17")]
    )


@_form
def own_columns(folder: Path) -> FormFile:
    rows = [
        {
            "frage": "Same?",
            "left": "red.png",
            "right": data_url_of("blue"),
            "meta": {"truth": {"text": "no"}},
            "nr": 0,
        }
    ]
    columns = {"question": "frage", "image": ["left", "right"], "answer": "meta.truth.text", "id": "nr"}
    data = _data(write_jsonl(folder / "rows.jsonl", rows), columns=columns, **_beside(folder))
    return FormFile(data, [Expected("<image><image>Same?", "no", ["red", "blue"], id="0")], form="plain")


NAMES = tuple(_MAKERS)
