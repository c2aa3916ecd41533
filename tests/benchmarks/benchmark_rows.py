"""Local copies of six benchmarks: rows of our own in each one's columns, with answers of known rightness.

Every row has an image of one colour, by which a server can tell which row it is asked about: `ROWS` gives the answer
that it is to get, and whether that is right. `by_harness` is the harness's own verdict where it differs, worked out by
hand from its rules.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as Pillow

TASKS = {
    "mathvista": "mathvista_testmini_cot",
    "mmstar": "mmstar",
    "mmmu": "mmmu_val",
    "mathverse": "mathverse_testmini",
    "mathvision": "mathvision_test",
    "ai2d": "ai2d",
}
SPLITS = {
    "mathvista": "testmini",
    "mmstar": "val",
    "mmmu": "validation",
    "mathverse": "testmini",
    "mathvision": "test",
    "ai2d": "test",
}


class Case(NamedTuple):
    """A row's own columns, an answer to it, and whether that is right."""

    columns: dict[str, Any]
    response: str
    right: bool
    by_harness: bool | None = None


def colour(benchmark: str, number: int, image: int = 0) -> tuple[int, int, int]:
    return (40 * list(TASKS).index(benchmark) + 10, 20 * number + 10, 30 * image + 10)


def picture(benchmark: str, number: int, image: int = 0) -> Pillow.Image:
    return Pillow.new("RGB", (56, 42), colour(benchmark, number, image))


def vista(question: str, answer: str, kind: str, response: str, right: bool, **more: Any) -> Case:
    choices = more.pop("choices", None)
    columns = {
        "question": question,
        "choices": choices,
        "answer": answer,
        "question_type": "multi_choice" if choices else "free_form",
        "answer_type": kind,
        "unit": None,
        "precision": None,
        "query": f"Hint: answer.\nQuestion: {question}",
        **more,
    }
    return Case(columns, response, right)


def star(question: str, answer: str, response: str, right: bool) -> Case:
    return Case({"question": question, "answer": answer}, response, right)


def mmmu(question: str, options: list[str], answer: str, response: str, right: bool, images: int = 1) -> Case:
    kind = "multiple-choice" if options else "open"
    columns = {"question": question, "options": str(options), "answer": answer, "question_type": kind}
    return Case(columns | {"images": images}, response, right)


def verse(version: str, kind: str, question: str, answer: str, response: str, right: bool) -> Case:
    columns = {
        "problem_version": version,
        "question_type": kind,
        "question": question,
        "answer": answer,
        "query_wo": f"Please answer the question.\n{question}",
        "query_cot": f"Think first.\n{question}",
        "question_for_eval": question or "How long is the side?",
    }
    return Case(columns, response, right)


def vision(question: str, options: list[str], answer: str, response: str, right: bool, harness: Any = None) -> Case:
    return Case({"question": question, "options": options, "answer": answer}, response, right, harness)


def ai2d(question: str, options: list[str], answer: str, response: str, right: bool, harness: Any = None) -> Case:
    return Case({"question": question, "options": options, "answer": answer}, response, right, harness)


SHARES = "How large is the share?\nOptions: A: a half, B: a third, C: a quarter, D: all of it"
ANIMALS = ["fox", "hare", "owl", "grass"]
ANGLES = "\nChoices:\nA:40\nB:50\nC:60\nD:70"
FIVE = ["1", "2", "3", "4", "5"]

ROWS: dict[str, list[Case]] = {
    "mathvista": [
        vista("Is red longer?", "Yes", "text", "They differ. The answer is (A).", True, choices=["Yes", "No"]),
        vista("How many dots are there?", "14", "integer", "14", True),
        vista("What is the slope?", "1.2", "float", "The answer is 1.2", True, precision=1.0),
        vista("What is the ratio?", "0.25", "float", "The answer is 0.31", False, precision=2.0),
        vista("Which years?", "[2007, 2008]", "list", "[2007, 2008]", True),
        vista("Which colour is it?", "blue", "text", "The answer is (B).", False, choices=["blue", "green", "red"]),
        vista("What does it cost?", "7", "integer", "So the answer is 7", True, unit="$"),
        vista("How many cubes are left?", "3", "integer", "13", False),
    ],
    "mmstar": [
        star(SHARES, "A", "A", True),
        star(SHARES, "B", "The answer is B.", True),
        star(SHARES, "C", "D", False),
        star(SHARES, "D", "(D)", True),
        star(SHARES, "B", "The answer is C.", False),
        star(SHARES, "C", "C", True),
    ],
    "mmmu": [
        mmmu("What does <image 1> show?", ["a cell", "a leaf", "a root"], "B", "B", True),
        mmmu("<image 1> Which sum is due?", ["$6", "$7", "$8"], "C", "The answer is A.", False),
        mmmu("Compare <image 1> with <image 2>.", ["equal", "larger", "smaller"], "A", "(A)", True, images=2),
        mmmu("Which one fits <image 1>?", ["<image 2>", "<image 3>"], "B", "B", True, images=3),
        mmmu("<image 1> What is the current in ampere?", [], "8", "The answer is 8", True),
        mmmu("<image 1> What is the profit?", [], "120", "The answer is 95", False),
    ],
    "mathverse": [
        verse("Text Dominant", "multi-choice", f"Angle x?{ANGLES}", "B", "The answer is B", True),
        verse("Text Lite", "multi-choice", f"Angle y?{ANGLES}", "C", "The answer is D", False),
        verse("Vision Intensive", "free-form", "How long is AB?", "5", "AB is 5. The answer is 5", True),
        verse("Vision Dominant", "free-form", "What is the area?", "12", "The answer is 24", False),
        verse("Vision Only", "free-form", "", "3\\sqrt{2}", "The answer is $3\\sqrt{2}$", True),
        verse("Vision Only", "multi-choice", "", "A", "The answer is A", True),
    ],
    "mathvision": [
        vision("How many squares?", [], "9", "So there are \\boxed{9}", True),
        vision("Which piece fits? <image1>", ["A", "B", "C", "D", "E"], "D", "It is \\boxed{D}", True),
        vision("How many triangles?", FIVE, "C", "There are three: \\boxed{C}", True),
        vision("What is the angle?", [], "45", "It is \\boxed{90}", False),
        vision("What is the sum?", [], "\\frac{1}{2}", "It is \\boxed{0.5}", True),
        vision("Which is next?", ["A", "B", "C", "D", "E"], "B", "It is \\boxed{E}", False),
    ],
    "ai2d": [
        ai2d("What eats the hare?", ANIMALS, "0", "A", True),
        ai2d("What is a producer?", ANIMALS, "3", "D. grass", True),
        ai2d("What flies?", ANIMALS, "2", "B", False),
        ai2d("What eats the grass?", ANIMALS, "1", "B", True),
        # The harness takes a letter at the start alone.
        ai2d("What hunts by night?", ANIMALS, "2", "The answer is C.", True, False),
        ai2d("Which has a red coat?", ANIMALS, "0", "D", False),
    ],
}


def by_rule(benchmark: str) -> float:
    """The share of right answers."""
    return sum(case.right for case in ROWS[benchmark]) / len(ROWS[benchmark])


def by_harness(benchmark: str) -> float:
    """The share that the harness takes for right."""
    verdicts = [case.right if case.by_harness is None else case.by_harness for case in ROWS[benchmark]]
    return sum(verdicts) / len(verdicts)


def _vista(number: int, case: Case) -> dict[str, Any]:
    metadata = {"split": "testmini", "category": "math", "context": "chart", "grade": "high school", "source": "own"}
    metadata |= {"task": "figure question answering", "language": "english", "skills": ["reading"]}
    shown = {"pid": str(number + 1), "image": f"images/{number + 1}.jpg", "metadata": metadata}
    return case.columns | shown | {"decoded_image": picture("mathvista", number)}


def _star(number: int, case: Case) -> dict[str, Any]:
    category, kind = (("math", "geometry"), ("logical reasoning", "diagram reasoning"))[number % 2]
    kinds = {"category": category, "l2_category": kind}
    return case.columns | kinds | {"index": number, "image": picture("mmstar", number), "meta_info": {"source": "own"}}


def _mmmu(number: int, case: Case) -> dict[str, Any]:
    columns = dict(case.columns)
    images = columns.pop("images")
    shown = {f"image_{i + 1}": picture("mmmu", number, i) if i < images else None for i in range(7)}
    return columns | shown | {"id": f"validation_{('Math', 'Art_Theory')[number % 2]}_{number + 1}", "subfield": "Own"}


def _verse(number: int, case: Case) -> dict[str, Any]:
    metadata = {"split": "testmini", "source": "own", "subject": "Plane Geometry", "subfield": "Angle"}
    numbers = {"sample_index": str(number + 1), "problem_index": str(number // 2 + 1)}
    return case.columns | numbers | {"metadata": metadata, "image": picture("mathverse", number)}


def _vision(number: int, case: Case) -> dict[str, Any]:
    shown = {"id": str(number + 1), "image": f"images/{number + 1}.jpg", "decoded_image": picture("mathvision", number)}
    return case.columns | shown | {"solution": None, "level": 3, "subject": "counting"}


def _ai2d(number: int, case: Case) -> dict[str, Any]:
    return case.columns | {"image": picture("ai2d", number)}


ROW_OF: dict[str, Callable[[int, Case], dict[str, Any]]] = {
    "mathvista": _vista,
    "mmstar": _star,
    "mmmu": _mmmu,
    "mathverse": _verse,
    "mathvision": _vision,
    "ai2d": _ai2d,
}


def dataset(benchmark: str) -> Dataset:
    """The rows of a benchmark as its data set has them."""
    rows = [ROW_OF[benchmark](number, case) for number, case in enumerate(ROWS[benchmark])]
    made = Dataset.from_list(rows)
    features = Features(
        {
            name: Image() if name in ("decoded_image", "image") and not isinstance(rows[0][name], str) else feature
            for name, feature in made.features.items()
        }
        | ({f"image_{i}": Image() for i in range(1, 8)} if benchmark == "mmmu" else {})
        | ({"options": List(Value("string"))} if benchmark == "mathvision" else {})
    )
    return made.cast(features)


def write(benchmark: str, folder: Path) -> Path:
    """A local copy as `save_to_disk` writes it."""
    DatasetDict({SPLITS[benchmark]: dataset(benchmark)}).save_to_disk(folder)
    return folder
