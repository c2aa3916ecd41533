"""What cannot be used is left out and listed with its line and field; it never ends the loading of the other rows."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from data.forms import base64_of, data_url_of, encoded, picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from difference_feedback.data.dataset import LoadedData, load_data
from difference_feedback.errors import ConfigError, DataError
from difference_feedback.runs.sections import Data

GOOD = {"question": "How many?", "image": "red.png", "answer": "3"}
ANIMALS = {"options": ["ant", "bee", "cow"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    for color in ("red", "blue"):
        picture(color).save(folder / f"{color}.png")
    Image.new("1", (30_000, 30_000)).save(folder / "huge.png")
    (folder / "empty.png").write_bytes(b"")
    for name, data in noise().items():
        (folder / f"whole.{name}").write_bytes(data)
        (folder / f"half.{name}").write_bytes(data[: len(data) // 2])
        (folder / f"nearly.{name}").write_bytes(data[:-200])
    return folder


def noise() -> dict[str, bytes]:
    """Files whose pixels cannot be guessed, so that a part of one is no whole image; the JPEG has a preview in it."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    files = {}
    for kind in ("png", "jpeg", "webp", "bmp", "tiff"):
        buffer = io.BytesIO()
        preview = Image.Exif()
        preview[0x927C] = encoded("blue", "JPEG")
        image.save(buffer, kind, **({"exif": preview} if kind == "jpeg" else {}))
        files[kind] = buffer.getvalue()
    return files


def load(folder: Path, *rows: Any, **settings: Any) -> LoadedData:
    path = folder / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return load_data(Data(path=str(path), instruction="", **settings))


@pytest.mark.parametrize(
    ("row", "field"),
    [
        *[({**GOOD, "question": value}, "question") for value in (5, float("nan"), [["a"]], {"a": 1}, "", None, True)],
        *[({**GOOD, "answer": value}, "answer") for value in (float("nan"), [["a"]], {"a": 1}, [], "", None)],
        *[({**GOOD, "answer": value}, "answer") for value in ("\\boxed{}", "<answer> </answer>", float("inf"))],
        *[({**GOOD, "image": value}, "image") for value in (5, [[0, 1], [1, 0]], {"a": 1}, [None], True)],
        *[({**GOOD, "image": f"{part}.{kind}"}, "image") for part in ("half", "nearly") for kind in noise()],
        *[({**GOOD, "image": name}, "image") for name in ("empty.png", "huge.png", "none.png", ".", "a\0b.png")],
        ({**GOOD, "image": "https://example.org/a.png"}, "image"),
        ({**GOOD, "image": base64_of("red")[:60]}, "image"),
        ({**GOOD, "image": "A" * 100_000}, "image"),
        ({**GOOD, "image": "?" * 100_000}, "image"),
        ({**GOOD, "image": "data:image/png;base64,!!!"}, "image"),
        ({**GOOD, "image": "data:image/png;base64,aGVsbG8="}, "image"),
        ({**GOOD, "image": "data:,"}, "image"),
        ({**GOOD, "id": [1]}, "id"),
        ({**GOOD, "id": True}, "id"),
        ({**GOOD, "question": "half \ud800 a pair"}, "question"),
        ({**GOOD, **ANIMALS, "answer": "A", "options": ["half \ud83d", "x"]}, "options"),
        ({**GOOD, "answer": "half \udc00"}, "answer"),
        ({**GOOD, "id": "half \udc00"}, "id"),
        ({**GOOD, "system": "half \udc00"}, "system"),
        ({**GOOD, "image": "half \udc00"}, "image"),
        ({**GOOD, "\udc00": 1}, None),
        ('{"question": "How many?", "image": "red.png", "answer": 1e400}', "answer"),
        ('{"question": "How many?", "image": "red.png", "answer": -Infinity}', "answer"),
        ('{"question": "How many?", "image": "red.png", "answer": %s}' % ("9" * 5000), None),
        ('{"question": "How many?", "image": "red.png", "answer": "1", "answer": "2"}', None),
        ({**GOOD, "answer": {"a": 1}}, "answer"),
        ({**GOOD, "question": True}, "question"),
        ({**GOOD, "image": 5}, "image"),
        ({**GOOD, "question": "<image> or <image>?"}, "question"),
        ({**GOOD, "question": "<image> and <video>?"}, "question"),
        ({"question": "What is <image>?", "answer": "3"}, "question"),
        ({**GOOD, "image": ["red.png", "blue.png"], "question": "Only <image>?"}, "question"),
        ({**GOOD, "image": ["red.png", "blue.png"], "question": "<image 1> <image 3>?"}, "question"),
        ({**GOOD, "options": ["x"] * 30, "answer": "A"}, "options"),
        ({**GOOD, "options": [["x"], ["y"]], "answer": "A"}, "options"),
        ({**GOOD, "options": {"left": "x", "right": "y"}, "answer": "A"}, "options"),
        *[({**GOOD, **ANIMALS, "answer": value}, "answer") for value in (2, "shark", "D", "B. cow", "A or B", "?")],
        ({**GOOD, "options": ["bee", "bee"], "answer": "bee"}, "answer"),
        ({**GOOD, "options": ["x", "A"], "answer": "A"}, "answer"),
    ],
)
def test_a_row_is_listed_and_the_others_are_used(folder: Path, row: Any, field: str | None) -> None:
    loaded = load(folder, GOOD, row, GOOD)
    [problem] = loaded.problems
    assert (problem.line, problem.field) == (2, field)
    assert len(problem.message) < 500
    assert ":" in problem.message, "what is wrong, and the remedy"
    assert loaded.lines == [1, 3]
    str(problem).encode()


@pytest.mark.parametrize(
    "item",
    [
        '{"question": "q", "image": "red.png", "answer": "1", "answer": "2"}',
        '{"question": "q", "image": "red.png", "answer": %s}' % ("9" * 5000),
        '{"question": "q", "image": "red.png", "answer": 1, "\\ud83d": 1}',
        '{"question": "q", "image": "red.png", "answer": "\\ud83d"}',
        "7",
    ],
)
def test_an_item_of_a_list_is_listed_and_the_others_are_used(folder: Path, item: str) -> None:
    path = folder / "rows.json"
    path.write_text(f"[\n{json.dumps(GOOD)},\n{item},\n{json.dumps(GOOD)}]")
    loaded = load_data(Data(path=str(path), instruction=""))
    assert (loaded.lines, [problem.line for problem in loaded.problems]) == ([1, 3], [2])
    assert len(loaded.for_training()) == 2


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("B. bee", "B"),
        ("(B) bee", "B"),
        ("B: Bee", "B"),
        ("bee", "B"),
        (" Bee. ", "B"),
        ("\\boxed{B}", "B"),
        ("<answer> (C) </answer>", "C"),
        ("$\\boxed{cow}$", "C"),
        ("Option C", "C"),
        (["C"], "C"),
    ],
)
def test_an_annotated_answer_is_understood_where_it_is_plain(folder: Path, answer: Any, letter: str) -> None:
    assert load(folder, {**GOOD, **ANIMALS, "answer": answer}).dataset["answer"][:] == [letter]


@pytest.mark.parametrize(
    ("answers", "letters"),
    [
        ([0, 2, 1], ["A", "C", "B"]),
        (["3", "1"], ["C", "A"]),
        ([1, 2], None),
        ([0, 3], None),
        ([0, 0, 1, 2] * 10 + [3], ["A", "A", "B", "C"] * 10),
        ([3, 1, 2, 3] * 10 + [0], ["C", "A", "B", "C"] * 10),
        ([1, 2] * 200 + [0, 0], ["B", "C"] * 200 + ["A", "A"]),
        ([0, "B"], None),
    ],
)
def test_indices_count_from_the_number_that_the_file_tells(
    folder: Path, answers: list[Any], letters: list[str] | None
) -> None:
    rows = [{**GOOD, **ANIMALS, "answer": answer} for answer in answers]
    if letters is not None:
        assert load(folder, *rows).dataset["answer"][:] == letters
        return
    try:
        numbers = len(load(folder, *rows).problems)
    except DataError:
        numbers = len(rows)
    assert numbers == sum(isinstance(answer, int) for answer in answers)


def test_numbers_that_are_options_are_no_indices(folder: Path) -> None:
    rows = [{**GOOD, "options": [2, 0, 1], "answer": answer} for answer in (0, 1, 2)]
    assert load(folder, *rows).dataset["answer"][:] == ["B", "C", "A"]
    assert load(folder, *rows, form="ai2d").dataset["answer"][:] == ["A", "B", "C"]
    assert load(folder, *rows[1:], answers_from=1).dataset["answer"][:] == ["A", "B"]


def test_lists_and_intervals_are_told_apart(folder: Path) -> None:
    answers = ["[0, 1]", "(0, 1]", "{1, 2}", "['24/7', '3.429']", ["a", "b"], ["a"], [7], "['a']"]
    loaded = load(folder, *({**GOOD, "answer": answer} for answer in answers))
    assert loaded.dataset["answer"][:] == ["[0, 1]", "(0, 1]", "{1, 2}", "24/7, 3.429", "a, b", "a", "7", "a"]
    loaded = load(folder, {**GOOD, "answer": [1.5, 2, 3]}, {**GOOD, "answer": [[1, 2], [3, 4]]})
    assert loaded.dataset["answer"][:] == ["[1.5, 2, 3]", "[[1, 2], [3, 4]]"]
    assert [problem.line for problem in load(folder, GOOD, {**GOOD, **ANIMALS, "answer": ["A", "C"]}).problems] == [2]


def test_ids_are_unique_and_zero_is_one(folder: Path) -> None:
    names = [0, 1, "0", "https://example.org/" + "x" * 300, "a/1", "a_1", 1.0, None]
    loaded = load(folder, *({**GOOD, "id": name} for name in names))
    assert loaded.dataset["id"][:] == ["0", "1", names[3], "a/1", "a_1", "line-8"]
    assert [(problem.line, problem.field) for problem in loaded.problems] == [(3, "id"), (7, "id")]
    assert "line 1" in loaded.problems[0].message
    assert "line 2" in loaded.problems[1].message


@pytest.mark.parametrize("token", ["<|image_pad|>", "<|im_end|>", "<IMG_CONTEXT>", "<img>", "<|vision_start|>"])
def test_tokens_of_models_stay_text(folder: Path, token: str) -> None:
    row = {**GOOD, "question": f"What means {token} here?", "options": [token, "no"], "answer": "A"}
    [question] = load(folder, row).questions()
    harmless = f"{token[0]} {token[1:]}"
    assert question.question == f"<image>What means {harmless} here?\nA. {harmless}\nB. no"
    assert load(folder, {**GOOD, "question": "If 1<|x|>0?"}).questions()[0].question.replace(" ", "") == (
        "<image>If1<|x|>0?"
    )


@pytest.mark.parametrize("image", [base64_of("red"), data_url_of("red"), {"bytes": None, "path": "red.png"}])
def test_an_image_within_a_row_is_read_again_when_it_is_needed(folder: Path, image: Any) -> None:
    rows = [GOOD, {**GOOD, "image": image}, {**GOOD, "image": [image, "blue.png"], "question": "é?"}]
    questions = load(folder, *rows).questions()
    assert [image.getpixel((1, 1)) for image in questions[2].images] == [(255, 0, 0), (0, 0, 255)]
    assert questions[1].images[0].size == (48, 36)


def test_images_in_a_data_set_are_left_out_alone(folder: Path, tmp_path: Path) -> None:
    files = [encoded("red"), b"", b"no image", noise()["jpeg"][:5000], (folder / "huge.png").read_bytes(), None]
    rows = {
        "question": [f"{i}?" for i in range(len(files))],
        "image": [data if data is None else {"bytes": data, "path": None} for data in files],
        "answer": ["1"] * len(files),
    }
    text = datasets.Value("string")
    features = datasets.Features({"question": text, "image": datasets.Image(), "answer": text})
    dataset = datasets.Dataset.from_dict(rows, features)
    dataset.save_to_disk(tmp_path / "saved")
    dataset.to_parquet(tmp_path / "rows.parquet")
    for path in (tmp_path / "saved", tmp_path / "rows.parquet"):
        loaded = load_data(Data(path=str(path)))
        assert [problem.line for problem in loaded.problems] == [2, 3, 4, 5]
        assert loaded.lines == [1, 6]


def test_pixels_that_are_damaged_within_a_whole_file_stay_grey(folder: Path, tmp_path: Path) -> None:
    for kind in ("png", "jpeg"):
        data = bytearray(noise()[kind])
        data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
        (tmp_path / f"a.{kind}").write_bytes(data)
        [question] = load(tmp_path, {**GOOD, "image": f"a.{kind}"}).questions()
        if kind == "png":
            with pytest.warns(RuntimeWarning, match="line 1"):
                assert question.images[0].size == (300, 200)
        else:
            assert question.images[0].size == (300, 200)


def test_a_file_that_is_gone_later_is_named_with_its_row(tmp_path: Path) -> None:
    picture("red").save(tmp_path / "red.png")
    [question] = load(tmp_path, GOOD).questions()
    (tmp_path / "red.png").unlink()
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1"):
        question.images[0]


def test_a_column_that_is_not_there_is_named_with_those_that_are(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.columns\.answer.*'truth'.*question, image, answer"):
        load(folder, GOOD, columns={"answer": "truth"})
    with pytest.raises(ConfigError, match=r"data\.columns\.question.*text, image, answer"):
        load(folder, {"text": "How many?", "image": "red.png", "answer": "3"})
    with pytest.raises(ConfigError, match=r"data\.form.*'problem'.*question, image, answer"):
        load(folder, GOOD, form="easyr1")
    with pytest.raises(ConfigError, match=r"data\.image_root"):
        load(folder, GOOD, image_root=str(folder / "none"))


def test_a_broken_end_of_a_list_costs_the_rest_alone(folder: Path) -> None:
    path = folder / "rows.json"
    path.write_text(json.dumps([GOOD, GOOD])[:-10])
    loaded = load_data(Data(path=str(path)))
    assert loaded.lines == [1]
    assert [problem.line for problem in loaded.problems] == [2]


def test_a_table_with_a_bad_line(folder: Path) -> None:
    path = folder / "rows.csv"
    path.write_text('question,image,answer\n"a, b?",red.png,1\nc, d?,red.png,2\n\n"two\nlines?",red.png,3\n')
    loaded = load_data(Data(path=str(path), instruction=""))
    assert loaded.dataset["question"][:] == ["<image>a, b?", "<image>two\nlines?"]
    assert [(problem.line, problem.field) for problem in loaded.problems] == [(3, None)]
    assert loaded.lines == [2, 5]


_KEYS = [
    "question",
    "answer",
    "options",
    "choices",
    "image",
    "images",
    "image_1",
    "image_2",
    "video",
    "id",
    "hint",
    "A",
    "B",
    "messages",
    "conversations",
    "prompt",
    "chosen",
    "rejected",
    "problem",
    "solution",
    "reward_model",
    "ground_truth",
    "role",
    "content",
    "from",
    "value",
    "type",
    "text",
    "bytes",
    "path",
    "url",
    "index",
    "tools",
    "system",
    "level",
]
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["red.png", "none.png", "<image>", "<video>", "[1, 2]", "['A', 'B']", "\\boxed{A}", "A", "user"]),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=8), min_size=1, max_size=4))
def test_no_row_ends_the_loading_but_in_an_error_on_purpose(folder: Path, rows: list[dict[str, Any]]) -> None:
    path = folder / "any.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        loaded = load_data(Data(path=str(path)), Console(file=io.StringIO()))
    except (ConfigError, DataError):
        return
    assert len(loaded.questions()) + len(loaded.problems) == len(rows)
    for question in loaded.questions():
        assert question.question.count("<image>") == len(list(question.images))
    assert len(loaded.for_training()[:]["prompt"]) == len(loaded.dataset)


def test_images_are_not_held(folder: Path) -> None:
    image = base64.b64encode(noise()["png"]).decode()
    loaded = load(folder, *({**GOOD, "image": image, "question": f"{i}?"} for i in range(50)))
    assert loaded.dataset.data.nbytes < 50 * 1000 < 50 * len(image)
