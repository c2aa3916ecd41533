"""Each benchmark's own answer rule on its own columns, alone and as the reward of a recipe, from file to verdict."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.judges.benchmark_rules import benchmark_of, grade_by, options_in
from difference_feedback.judges.llm_judge import LLMJudge
from difference_feedback.judges.questions import held_out, reward_functions, training_data
from difference_feedback.runs.check import check
from difference_feedback.runs.recipes import EvaluateRecipe, TrainRecipe
from difference_feedback.runs.rewards import BENCHMARKS

NUMBER = {"question_type": "free_form", "choices": None, "unit": None, "precision": None}
SLOPE = {
    "question_type": "multi_choice",
    "answer_type": "text",
    "answer": "equal to",
    "choices": ["larger than", "equal to", "smaller than"],
}
MATHVERSE = {
    "question_type": "multi-choice",
    "answer": "C",
    "question_for_eval": "As shown, the radius is 1. The length of BC is ()\nChoices:\nA:2\nB:2√{3}\nC:√{3}\nD:2√{2}",
}
MMSTAR = {"question": "Which colour is it?\nOptions: A: red, B: blue, C: green, D: black", "answer": "B"}
MMMU = {"question_type": "multiple-choice", "options": "['$6', '$7', '<image 1>', 'It is unknown']", "answer": "B"}
OPEN = {"question_type": "open", "options": "[]"}
KRILL = {"options": ["krill", "whale", "plankton", "seal"], "answer": "2"}
CASES = [
    (
        "mathvista",
        NUMBER | {"answer_type": "integer", "answer": "14"},
        {"14": 1, "14.0": 1, "The answer is 14 dogs.": 1},
    ),
    ("mathvista", NUMBER | {"answer_type": "integer", "answer": "14"}, {"14.6": 1, "15": 0, "-14": 0, "fourteen": 1}),
    (
        "mathvista",
        NUMBER | {"answer_type": "float", "answer": "1.2", "precision": 1.0, "unit": "m"},
        {"1.2": 1, "1.23": 1, "\\boxed{1.16}": 1, "1.26": 0, "1.2 m": 1, "120 cm": 1, "120": 0, "1.2 kg": 0, "6/5": 1},
    ),
    (
        "mathvista",
        NUMBER | {"answer_type": "float", "answer": "1.45", "precision": 2.0, "unit": "$"},
        {"$1.45": 1, "The answer is 1.45 dollars.": 1, "1.4": 0, "1.449": 1, "1.45 euros": 0},
    ),
    (
        "mathvista",
        NUMBER | {"answer_type": "list", "answer": "[2007, 2008]"},
        {"[2007, 2008]": 1, "\\boxed{[2007,2008]}": 1, "2007 and 2008": 1, "[2008, 2007]": 0, "2007": 0},
    ),
    ("mathvista", SLOPE, {"B": 1, "(B) equal to": 1, "equal to": 1, "is equal to": 1, "A": 0, "smaller than": 0}),
    ("mathvista", SLOPE, {"The answer is B or C.": 0, "\\boxed{A. equal to}": 0, "no idea at all, and a long text": 0}),
    (
        "mmmu",
        MMMU,
        {"B": 1, "(B)": 1, "$7": 1, "The answer is B. $7": 1, "$6": 0, "C": 0, "A long text without one": 0},
    ),
    ("mmmu", OPEN | {"answer": "['3.33', '10/3']"}, {"3.33": 1, "3.333": 1, "10/3 m": 1, "3.3": 0, "33.3": 0}),
    ("mmmu", OPEN | {"answer": "Renaissance"}, {"the Renaissance": 1, "Renaissance art": 1, "not Renaissance": 0}),
    (
        "mmmu",
        OPEN | {"answer": "3"},
        {f"\\boxed{{{text}}}": 0 for text in ("not 3", "> 3", "x^3", "3x", "x - 3", "3 is wrong", "more than 3")}
        | {"\\boxed{3 dogs are in the picture}": 1, "\\boxed{\\approx 3.001}": 1, "It is 3 for each of them.": 1},
    ),
    ("mmmu", OPEN | {"answer": "cat"}, {"a black cat": 1, "anything but cat": 0, "isn't cat": 0, "cat is wrong": 0}),
    ("mmmu", OPEN | {"answer": "no change"}, {"There is no change": 1, "It's not no change": 0}),
    ("mmmu", OPEN | {"answer": "1,200"}, {"1200": 1, "$1,200": 1, "between 1,100 and 1,200": 0}),
    (
        "mmstar",
        MMSTAR,
        {"B": 1, "B: blue": 1, "(B)": 1, "blue": 1, "The answer is B.": 1, "A": 0, "B: red": 0, "red": 0},
    ),
    ("mathverse", MATHVERSE, {"C": 1, "C:√3": 1, "\\boxed{\\sqrt{3}}": 1, "B:2√{3}": 0, "null": 0, "2": 0}),
    (
        "mathverse",
        {"question_type": "free-form", "answer": "(-2,1]", "question_for_eval": "Write the set in interval notation."},
        {"\\boxed{(-2, 1]}": 1, "\\boxed{(-2, 1)}": 0, "-2 < x \\le 1": 1},
    ),
    ("mathvision", {"options": [], "answer": "3.14"}, {"3.14": 1, "\\boxed{3.142}": 1, "3.15": 0, "\\boxed{\\pi}": 1}),
    ("mathvision", {"options": [], "answer": "5 m"}, {"5 m": 1, "5.001 m": 1, "500.1 cm": 1, "5": 1, "5 cm": 0}),
    ("mathvision", {"options": [], "answer": "5 cm^2"}, {"5.001 cm^2": 1, "5 cm": 0, "5 m^2": 0}),
    ("mathvision", {"options": [], "answer": "5 dogs"}, {"5.001 dogs": 1, "5 cats": 0}),
    ("mathvision", {"options": ["$5^2$", "$26$"], "answer": "A"}, {"A": 1, "25": 1, "\\boxed{26}": 0, "B": 0}),
    ("ai2d", KRILL, {"C": 1, "plankton": 1, "(C) plankton": 1, "B": 0, "whale": 0, "C. whale": 0}),
    ("ai2d", {"options": ["3", "1", "0", "2"], "answer": "2"}, {"C": 1, "0": 1, "2": 0, "D": 0}),  # an index, no text
]


@pytest.mark.parametrize(("benchmark", "row", "responses"), CASES)
def test_a_benchmark_grades_by_its_own_rule(benchmark: str, row: dict[str, Any], responses: dict[str, int]) -> None:
    verdicts = {response: int(grade_by(benchmark, response, row).correct) for response in responses}
    assert verdicts == responses


def test_a_task_of_the_harness_has_its_benchmarks_rule() -> None:
    tasks = [
        "mathvista_testmini",
        "MMMU_val",
        "mmstar",
        "mathverse_testmini_vision_only",
        "mathvision_test",
        "ai2d_lite",
    ]
    assert {benchmark_of(task) for task in tasks} == set(BENCHMARKS)
    with pytest.raises(ConfigError, match=r"mathvist.*mathvista"):
        benchmark_of("mathvist")
    with pytest.raises(DataError, match=r"ai2d.*'answer'.*options"):
        grade_by("ai2d", "A", {"options": ["x", "y"]})


HUGE = {
    "power": "10^{400}",
    "power of two": "2^{1024}",
    "tower": "9^{9^{9^9}}",
    "factorial": "500!",
    "exponential": "e^{1000}",
    "negative": "-10^{400}",
    "digits": "9" * 390,
    "more digits": "9" * 3_000,
    "exponent": "1e399",
    "inverse": "1/10^{400}",
    "infinity": "\\infty",
}
ROWS = [*((benchmark, row) for benchmark, row, _ in CASES), ("mmmu", OPEN | {"answer": "10^{400}"})]


@pytest.mark.parametrize("answer", HUGE.values(), ids=HUGE)
def test_a_number_of_any_size_has_a_verdict(answer: str) -> None:
    for benchmark, row in ROWS:
        for response in (f"\\boxed{{{answer}}}", f"The answer is {answer}.", f"<answer>{answer} m</answer>", answer):
            assert grade_by(benchmark, response, row).correct in (True, False)


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (NUMBER | {"answer_type": "integer", "answer": "1,200"}, "answer.*1,200"),
        (NUMBER | {"answer_type": "float", "answer": "1/2"}, "answer.*1/2"),
        (NUMBER | {"answer_type": "float", "answer": "nan"}, "answer.*nan"),
        (NUMBER | {"answer_type": "float", "answer": "1.2", "precision": "two"}, "precision.*two"),
        (SLOPE | {"choices": []}, "choices"),
    ],
)
@pytest.mark.parametrize("response", ["5", "B", "no answer at all, and a long text about it"])
def test_a_row_that_the_rule_cannot_read_names_its_field(row: dict[str, Any], field: str, response: str) -> None:
    with pytest.raises(DataError, match=rf"mathvista.*{field}"):
        grade_by("mathvista", response, row)


@pytest.mark.parametrize(
    "question",
    [
        "Which? A: red, B: 1,200, C: a.b",
        "Which?\nChoices:\n(A) red\n(B) 1,200\n(C) a.b",
        "In A. Smith's picture (see A: left), which?\nA. red\nB. 1,200\nC. a.b",
    ],
)
def test_options_are_read_from_a_questions_text(question: str) -> None:
    assert options_in(question) == ["red", "1,200", "a.b"]
    assert options_in("How many dots are there?") == []


@pytest.mark.parametrize(
    ("reward", "row", "responses"),
    [
        ("mathvista", NUMBER | {"answer_type": "float", "answer": "1.2", "precision": 1.0}, {"1.23": 1.0, "1.3": 0.0}),
        ("ai2d", KRILL, {"C": 1.0, "plankton": 1.0, "B": 0.0}),
        ("mmmu", MMMU | {"options": "['$6', '$7']"}, {"B": 1.0, "$6": 0.0}),
    ],
)
def test_a_benchmarks_rule_is_a_reward_from_its_file_on(
    tmp_path: Path, reward: str, row: dict[str, Any], responses: dict[str, float]
) -> None:
    Image.new("RGB", (56, 56), "red").save(tmp_path / "a.png")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"question": "How much is it?", "image": "a.png", "id": "q"} | row) + "\n")
    data = {"path": str(rows)} | ({"form": "ai2d"} if reward == "ai2d" else {})
    recipe = TrainRecipe.model_validate({"data": data, "reward": reward})
    dataset, grader = training_data(recipe)
    columns = {name: list(dataset[name]) * len(responses) for name in dataset.column_names if name != "images"}
    [function] = reward_functions(grader)
    prompts = columns.pop("prompt")
    assert function(prompts=prompts, completions=list(responses), **columns) == list(responses.values())
    assert function.__name__ == reward
    questions, rule = held_out(EvaluateRecipe.model_validate({"data": data, "reward": reward}))
    assert rule.grade(list(questions) * len(responses), list(responses)) == [bool(v) for v in responses.values()]


def test_mathverse_may_be_judged_by_a_model_that_is_told_its_rules(tmp_path: Path) -> None:
    Image.new("RGB", (56, 56), "red").save(tmp_path / "a.png")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": "?", "image": "a.png", "answer": "B"}) + "\n")
    values = {"data": {"path": str(tmp_path / "rows.jsonl")}, "reward": "mathverse"}
    judge = {"endpoint": {"url": "http://127.0.0.1:9/v1", "model": "m"}}
    _, grader = held_out(EvaluateRecipe.model_validate(values | {"judge": judge}))
    assert isinstance(grader, LLMJudge)
    assert "MathVerse" in grader.rules
    _, rule = held_out(EvaluateRecipe.model_validate(values))
    assert not isinstance(rule, LLMJudge)


def test_a_benchmarks_rule_needs_the_benchmarks_rows() -> None:
    with pytest.raises(ConfigError, match=r"reward: mathvista.*data\.path"):
        check(TrainRecipe.model_validate({"reward": "mathvista"}))
