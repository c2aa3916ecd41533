"""The final-answer rule: which answer it extracts, which answers it takes for equal, and that it never raises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difference_feedback.judges.extraction import final_answer
from difference_feedback.judges.rules import final_answer_reward, grade, matches


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (r"So \boxed{3}, no: \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        ("thinking <answer> 42 </answer>", "42"),
        ("The answer is 7.", "7"),
        ("First answer: 3\nFinal answer: 3.5 cm. Done", "3.5 cm"),
        ("the answer is: (B) because", "(B) because"),
        ("3 plus 8 is 11 . answer: 11", "11"),
        ("The answer is 7, because 3 + 4 is 7.", "7"),
        ("the answer is about 3.5", "about 3.5"),
        ("**Answer:**\n\n42\n\nwhich can be checked", "42"),
        ("So the answer is\n\\[\n42\n\\]", "42"),
        ("It is 72 in all.\n#### 72", "72"),
        ("#### Result\nThe answer is 5", "5"),
        ("We compare all of them. Therefore, option B is correct.", "B"),
        ("Of all the shapes shown here, (C) is the correct one.", "C"),
        ("In the end option B is incorrect, and so is option D here", None),
        ("12", "12"),
        (r"\boxed{unclosed", r"\boxed{unclosed"),
        ("A long text that goes on and on and never says what it ends with", None),
        ("", None),
    ],
)
def test_the_last_final_answer_is_found(response: str, expected: str | None) -> None:
    extracted = final_answer(response)
    assert (extracted and extracted.text) == expected


@pytest.mark.parametrize(
    ("response", "answer", "options", "expected"),
    [
        (r"\boxed{6}", "6", None, True),
        (r"\boxed{6.0}", "6", None, True),
        (r"\boxed{3√2}", r"3\sqrt{2}", None, True),
        (r"\boxed{4π}", r"4\pi", None, True),
        (r"\boxed{4π}", r"4\pi^2", None, False),
        (r"\boxed{y = 2x+1}", "y=1+2x", None, True),
        (r"\boxed{y = 2x+1}", "y=2x-1", None, False),
        (r"\boxed{1,234}", "1234", None, True),
        (r"\boxed{\frac{1}{2}}", "0.5", None, True),
        (r"\boxed{\dfrac{2}{4}}", "1/2", None, True),
        (r"\boxed{1:4}", r"$\frac{1}{4}$", None, True),
        (r"\boxed{60^{\circ}}", "60", None, True),
        (r"\boxed{45 \mathrm{~cm}^2}", "45", None, True),
        (r"\boxed{-3}", "3", None, False),
        (r"\boxed{61}", "6", None, False),
        (r"\boxed{1/0}", "0", None, False),
        (r"\boxed{\text{March}}", "march", None, True),
        ("The answer is B.", "B", ["1", "2"], True),
        ("The answer is (B) 2", "B", ["1", "2"], True),
        (r"\boxed{2}", "B", ["1", "2"], True),
        (r"\boxed{1}", "B", ["1", "2"], False),
        (r"\boxed{A}", "B", ["1", "2"], False),
        (r"\boxed{\text{(B)}}", "B", ["A", "B"], True),
        ("nothing that could be called one, at any length at all", "B", None, False),
        (r"\boxed{}", "", None, False),
    ],
)
def test_agreement(response: str, answer: str, options: list[str] | None, expected: bool) -> None:
    assert matches(response, answer, options) is expected


@given(st.text(max_size=200), st.text(max_size=20), st.none() | st.lists(st.text(max_size=10), max_size=6))
def test_nothing_makes_it_raise(response: str, answer: str, options: list[str] | None) -> None:
    for text in (response, f"\\boxed{{{response}}}", f"the answer is {response}"):
        assert matches(text, answer, options) in (True, False)


WITHOUT_OPTIONS = [
    (r"\boxed{\dfrac{7}{2}}", "3 1/2", True),
    (r"\boxed{3\frac{1}{2}}", "3.5", True),
    (r"\boxed{3 1/2}", "7/2", True),
    (r"\boxed{50\%}", "0.5", True),
    (r"\boxed{50\%}", "50", True),
    (r"\boxed{x=5}", "5", True),
    (r"\boxed{2 \cdot 3 = 6}", "6", True),
    (r"\boxed{12\text{ cm}}", "12", True),
    (r"\boxed{12 m}", "12 cm", False),
    (r"\boxed{\text{12 apples}}", "12", True),
    (r"\boxed{5 km/h}", "5", True),
    (r"\boxed{16\pi \text{ cm}^2}", r"16\pi", True),
    (r"\boxed{16\pi}", "16", False),
    (r"\boxed{16x}", "16", False),
    (r"\boxed{3xy}", "3", False),
    (r"\boxed{5i}", "5", False),
    (r"\boxed{[1,2)}", "[1,2)", True),
    (r"\boxed{[1, 2)}", "[1,2]", False),
    (r"\boxed{(1,2)}", "[1,2]", False),
    (r"\boxed{(-\infty,3]}", r"(-\infty, 3]", True),
    (r"\boxed{(-\infty,3)}", r"(-\infty, 3]", False),
    (r"\boxed{\{1,2\}}", r"\{2,1\}", True),
    (r"\boxed{1,2}", "2,1", True),
    (r"\boxed{(2,3)}", "(3,2)", False),
    (r"\boxed{2\sqrt{3}}", r"\sqrt{12}", True),
    (r"\boxed{\frac{\pi}{2}}", r"\pi/2", True),
    (r"\boxed{x^2+2x+1}", "(x+1)^2", True),
    (r"\boxed{\frac{1}{3}}", "0.33", False),
    (r"\boxed{10^3}", "1000", True),
    (r"\boxed{1.0e3}", "1000", True),
    (r"\boxed{x>3}", "3", False),
    (r"\boxed{x \le 3}", "x<3", False),
    (r"\boxed{5 or 7}", "5", False),
    (r"\boxed{\pm 2}", "2", False),
    (r"\boxed{cat}", "act", False),
    (r"\boxed{ab}", "ba", False),
    ("The answer is 12, not 13", "12", True),
    ("First answer: 3, final answer: 4", "4", True),
    ("**Answer:** 12", "12", True),
    ("答案是 12。", "12", True),
    ("Yes, since three people stand near the bus in the picture.", "yes", True),
    ("Not at all, there is nobody near the bus in the picture.", "no", False),
    ("x" * 300_000, "3", False),
    (r"\boxed{" + "{" * 50_000, "3", False),
    (r"\boxed{" + "(" * 200 + "1" + ")" * 200 + "}", "2", False),
]


@pytest.mark.parametrize(("response", "answer", "expected"), WITHOUT_OPTIONS)
def test_which_answers_are_equal(response: str, answer: str, expected: bool) -> None:
    assert grade(response, answer).correct is expected


@pytest.mark.parametrize(
    ("response", "answer", "options", "expected", "rule"),
    [
        ("Option C", "C", ["1", "2", "3"], True, "letter"),
        ("The correct option is (B) 12", "B", ["10", "12"], True, "letter"),
        ("b", "B", ["x", "y"], True, "letter"),
        ("The answer is A and C", "A", ["1", "2", "3"], False, "several letters"),
        (r"\boxed{A, B}", "A", ["1", "2"], False, "several letters"),
        ("The answer is both A and C.", "A", ["1", "2", "3"], False, "option"),
        ("The answer is None of the above.", "D", ["1", "2", "3", "None of the above"], True, "option"),
        (r"\boxed{A cat}", "B", ["dog", "A cat"], True, "option"),
        (r"\boxed{A cat}", "A", ["dog", "A cat"], False, "option"),
        (r"\boxed{C}", "3", ["1", "2", "3"], True, "letter"),
        (r"\boxed{45}", "B", [r"$36 \mathrm{~cm}^2$", r"$45 \mathrm{~cm}^2$"], True, "option"),
        (r"\boxed{0.5}", "A", ["1/2", "50 %"], False, "option"),  # two options have this value
        ("I think the answer is A. Actually the answer is B.", "B", ["1", "2"], True, "letter"),
    ],
)
def test_choices(response: str, answer: str, options: list[str], expected: bool, rule: str) -> None:
    grading = grade(response, answer, options)
    assert (grading.correct, grading.rule) == (expected, rule)


def test_a_grading_names_answer_place_and_rule() -> None:
    grading = grade(r"Adding up, \boxed{\sqrt{12}}", r"2\sqrt{3}")
    assert (grading.correct, grading.extracted, grading.where, grading.rule) == (
        True,
        r"\sqrt{12}",
        "box",
        "expression",
    )
    assert grade("no idea, but here is a long text about it", "3").rule == "no answer"
    assert grade(r"\boxed{red}", "blue").rule == "none"


@given(st.integers(-(10**6), 10**6))
def test_an_answer_agrees_with_itself_and_not_with_its_neighbour(number: int) -> None:
    assert matches(f"so \\boxed{{{number}}}", str(number))
    assert matches(f"The answer is {number}.", str(number))
    assert not matches(f"The answer is {number + 1}.", str(number))


def test_the_reward_reads_chat_completions_and_plain_ones() -> None:
    completions = [[{"role": "assistant", "content": "answer: 3"}], "answer: 4", "answer: B"]
    rewards = final_answer_reward(
        [None] * 3, completions, answer=["3", "3", "B"], options=[None, None, ["x", "y"]], id=["a", "b", "c"]
    )
    assert rewards == [1.0, 0.0, 1.0]
