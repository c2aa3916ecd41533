"""The option that an annotated answer names, from where answers count, and the final answer within its wrapping."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from difference_feedback.data.answers import LETTERS, options_in, split_options
from difference_feedback.data.dataset import LoadedData, read_data
from difference_feedback.data.final_answers import final_answer_of, unwrapped
from difference_feedback.errors import FieldError
from difference_feedback.runs.sections import Data


def load(folder: Path, *rows: Any, **settings: Any) -> LoadedData:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_data(Data(path=str(path), instruction="", **settings))


def letters(loaded: LoadedData) -> dict[int, str]:
    """The answers by their lines."""
    return dict(zip(loaded.lines, loaded.dataset["answer"][:], strict=True))


@pytest.mark.parametrize("written", ["{}", "${}$", "{}.", "{}.0", "{} dots", "\\({}\\)", "{}°", "$ {} $ cm", "x = {}"])
@pytest.mark.parametrize("bad", [{"options": ["cat", "dog", "cow", "ant"], "answer": "2"}, None])
@pytest.mark.parametrize("also", [{}, {"hint": "Look."}, {"level": 1}])
def test_numbers_of_options_are_texts_whatever_one_row_says(
    tmp_path: Path, written: str, bad: dict[str, Any] | None, also: dict[str, Any]
) -> None:
    draw = random.Random(0)
    rows = []
    for _ in range(60):
        numbers = draw.sample(range(6), 4)
        options = [written.format(number) for number in numbers]
        rows.append({"question": "How many?", "choices": options, "answer": str(draw.choice(numbers)), **also})
    wanted = {line: LETTERS[row["choices"].index(written.format(row["answer"]))] for line, row in enumerate(rows, 1)}
    if bad is not None:
        rows.append({"question": "Which?", "choices": bad["options"], "answer": bad["answer"], **also})
    answers = letters(load(tmp_path, *rows))
    assert answers == ({} if written == "x = {}" else wanted)


@pytest.mark.parametrize("base", [0, 1])
def test_one_bad_row_spoils_no_indices(tmp_path: Path, base: int) -> None:
    draw, words = random.Random(base), ["ant", "bee", "cow", "dog"]
    places = [draw.randrange(4) for _ in range(50)]
    rows = [{"question": "Which?", "options": words, "answer": place + base} for place in places]
    wanted = {line: LETTERS[place] for line, place in enumerate(places, 1)}
    for bad in ({"answer": 9}, {"answer": 4 if base == 0 else 0}, {"answer": "moth"}):
        loaded = load(tmp_path, *rows, rows[0] | bad)
        assert loaded.layout.index_base == base
        assert letters(loaded) == wanted
        assert [problem.line for problem in loaded.problems] == [51]


def test_a_number_that_is_a_text_and_another_index_is_left_out(tmp_path: Path) -> None:
    words = [{"question": "Which?", "options": ["ant", "bee", "cow"], "answer": i % 3} for i in range(12)]
    rows = [{"question": "How many?", "options": ["2", "1", "0"], "answer": answer} for answer in (0, 1)]
    loaded = load(tmp_path, *words, *rows)
    assert [problem.line for problem in loaded.problems] == [13]
    assert letters(loaded)[14] == "B"
    assert letters(load(tmp_path, *words, *rows, answers_from=0))[13] == "A"
    assert letters(load(tmp_path, *words[1:3], answers_from=1)) == {1: "A", 2: "B"}


@pytest.mark.parametrize(
    ("options", "answer", "letter"),
    [
        ({"B": "bee", "A": "ant"}, "bee", "B"),
        ({"a": "ant", "b": "bee"}, "b", "B"),
        ({"1": "ant", "2": "bee"}, "1", "A"),
        ({"0": "ant", "1": "bee"}, 1, "B"),
        ("{'A': 'ant', 'B': 'bee'}", "B", "B"),
        ("['ant' 'bee']", "bee", "B"),
        ("['ant'\n 'bee']", "A", "A"),
        ("A. ant\nB. bee", "B", "B"),
        ("ant;bee", "bee", "B"),
        ("ant|bee", "A", "A"),
        (["ant", "bee", None], "bee", "B"),
        ({"label": ["A", "B"], "text": ["ant", "bee"]}, "B", "B"),
        ([{"label": "A", "text": "ant"}, {"label": "B", "text": "bee"}], "bee", "B"),
        ([{"text": "ant"}, {"text": "bee"}], "bee", "B"),
        ([{"A": "ant"}, {"B": "bee"}], "A", "A"),
        (["1. ant", "2. bee"], "2", "B"),
        (["1) ant", "2) bee"], 1, "A"),
        (["1. ant", "2. bee"], "2. bee", "B"),
        (["(a) ant", "(b) bee"], "(b)", "B"),
    ],
)
def test_options_are_read_however_they_are_written(tmp_path: Path, options: Any, answer: Any, letter: str) -> None:
    [question] = load(tmp_path, {"question": "Which?", "options": options, "answer": answer}).questions()
    assert question.options == ("ant", "bee")
    assert question.answer == letter


@pytest.mark.parametrize(
    "options",
    [
        ["(1) only", "(2) only", "(3) only"],
        ["(a) only", "(b) only"],
        ["1: 2", "2: 3", "3: 4"],
    ],
)
def test_what_looks_like_a_label_and_tells_options_apart_stays(options: list[str]) -> None:
    assert options_in(options).texts == options


def test_bars_between_labelled_options_belong_to_none() -> None:
    assert options_in("A: ant | B: bee | C: cow").texts == ["ant", "bee", "cow"]


@pytest.mark.parametrize(
    ("answer", "options", "letter"),
    [
        ("30", ["$30^\\circ$", "$60^{\\circ}$"], "A"),
        ("$\\frac{1}{2}$", ["$\\dfrac{1}{3}$", "$\\dfrac{1}{2}$"], "B"),
        ("-3", ["3", "\N{MINUS SIGN}3"], "B"),
    ],
)
def test_spellings_of_mathematics_are_one(tmp_path: Path, answer: str, options: list[str], letter: str) -> None:
    loaded = load(tmp_path, {"question": "Which?", "options": options, "answer": answer})
    assert letters(loaded) == {1: letter}


@pytest.mark.parametrize("names", [("A", "B", "C"), ("option_1", "option_2")])
def test_options_that_begin_late_in_a_file_are_read(tmp_path: Path, names: tuple[str, ...]) -> None:
    rows = [{"question": "What?", "answer": "x"} for _ in range(350)]
    options = dict(zip(names, ("ant", "bee", "cow"), strict=False))
    loaded = load(tmp_path, *rows, {"question": "Which?", "answer": "bee", **options})
    assert loaded.questions()[-1].options == ("ant", "bee", "cow")[: len(names)]
    assert loaded.questions()[-1].answer == "B"


def test_an_option_column_may_be_in_the_singular(tmp_path: Path) -> None:
    [question] = load(tmp_path, {"question": "?", "option": "A. 3; B. 4; C. 5", "answer": "B"}).questions()
    assert (question.options, question.answer) == (("3", "4", "5"), "B")


@pytest.mark.parametrize("column", ["solution", "response"])
def test_a_worked_solution_must_state_its_answer(tmp_path: Path, column: str) -> None:
    work = "We see three on the left and four on the right.\nTogether this gives 7 apples"
    rows = [{"question": "?", column: work}, {"question": "?", column: f"{work}. The answer is 7."}]
    loaded = load(tmp_path, *rows, {"question": "?", column: "7"})
    assert [(problem.line, problem.field) for problem in loaded.problems] == [(1, "answer")]
    assert loaded.dataset["answer"][:] == ["7", "7"]
    assert len(load(tmp_path, *rows, columns={"answer": column}).problems) == 0


def test_what_several_people_wrote_is_one_answer(tmp_path: Path) -> None:
    answers = [["nokia", "Nokia", "nokia ", "phone"], ["yes", "no", "yes", "yes"], ["a", "b", "c"]]
    rows = [{"question": "?", "answers": texts} for texts in answers]
    loaded = load(tmp_path, *rows, columns={"answer": "answers"})
    assert loaded.dataset["answer"][:] == ["nokia", "yes", "a"]
    lists = load(tmp_path, *({"question": "?", "answer": texts} for texts in (["red", "blue"], ["a", "b", "c"])))
    assert lists.dataset["answer"][:] == ["red, blue", "a, b, c"]


@pytest.mark.parametrize(
    "options",
    [
        {"A": "x", "B": None, "C": "y"},
        {"A": None, "B": "y"},
        {"A": "x", "C": "y"},
        ["x", "", "y"],
        {"label": ["A", "A"], "text": ["x", "y"]},
    ],
)
def test_an_option_keeps_its_place_or_the_row_is_listed(options: Any) -> None:
    with pytest.raises(FieldError):
        options_in(options)


def test_true_and_false_are_options(tmp_path: Path) -> None:
    rows = [
        {"question": "?", "options": options, "answer": answer}
        for options, answer in ((["No", "Yes"], True), ([True, False], False), (["True", "False"], "true"))
    ]
    assert letters(load(tmp_path, *rows)) == {1: "B", 2: "B", 3: "A"}


def test_options_stand_in_columns_of_their_own(tmp_path: Path) -> None:
    row = {"question": "Which?", "A": "ant", "B": "bee", "C": "cow", "D": "nan", "answer": "C", "l2_category": "x"}
    [question] = load(tmp_path, row).questions()
    assert (question.options, question.answer) == (("ant", "bee", "cow"), "C")
    [problem] = load(tmp_path, row | {"B": ""}).problems
    assert problem.field == "options"
    [question] = load(tmp_path, row | {"index": 1, "category": "y"}, form="mmstar").questions()
    assert question.options == ("ant", "bee", "cow")
    columns = {"question": "Which?", "a0": "ant", "a1": "bee", "a2": "cow", "answer": 2}
    assert letters(load(tmp_path, columns)) == {1: "C"}
    named = {"question": "Which?", "left": "ant", "right": "bee", "answer": "bee"}
    assert letters(load(tmp_path, named, columns={"options": ["left", "right"]})) == {1: "B"}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("She sold 48/2 = <<48/2=24>>24.\nShe sold 72.\n#### 72", "72"),
        ("We add 2 and 3.\nTherefore the answer is 5.", "5"),
        ("The answer is 5. So the answer is 6.", "6"),
        ("Let \\boxed{2}. Final answer: 3", "3"),
        ("The answer is 2, or better: \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("First \\boxed{2}.\nWait.\n\\boxed{3} and \\boxed{4}", "3, 4"),
        ("<think>2</think>3", "3"),
        ("<think>\\boxed{9}? <answer>C</answer>?</think> <answer>B</answer>", "B"),
        ("I see 3.\n<|begin_of_box|>3<|end_of_box|>", "3"),
        ("**Final Answer:** 7", "7"),
        ("The answer is $3.5$.", "3.5"),
        ("The answer is Mt. Everest.", "Mt. Everest"),
        ("$\\(3\\)$", "3"),
        ("x < y", "x < y"),
        ("$2$ or $3$", "$2$ or $3$"),
    ],
)
def test_a_worked_solution_ends_in_its_final_answer(text: str, answer: str) -> None:
    assert unwrapped(text) == answer
    assert final_answer_of(text) == answer


@pytest.mark.parametrize(
    ("options", "answer", "says"),
    [(["a", "b", "c"], ["A", "C"], "several"), (["x", "x"], "x", "letter"), (["x", "A"], "A", "write")],
)
def test_an_answer_that_names_two_options_is_listed(tmp_path: Path, options: Any, answer: Any, says: str) -> None:
    [problem] = load(tmp_path, {"question": "?", "options": options, "answer": answer}).problems
    assert (problem.field, says in problem.message) == ("answer", True)


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 20_000,
        "options:" + " \n" * 20_000 + "q",
        "x" + "\n" * 50_000 + "q",
        "The answer is 5. " * 10_000,
        ("-" * 20_000 + "\n") * 5,
        "\\boxed{1} and " * 10_000,
        "A. x\n" * 10_000,
    ],
    ids=lambda text: text[:10],
)
def test_long_texts_take_no_time(text: str) -> None:
    start = time.process_time()
    unwrapped(text)
    final_answer_of(text)
    split_options(text)
    assert time.process_time() - start < 1.0
