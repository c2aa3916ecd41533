"""The final-answer rule: what it finds, what it holds to be the same, and that nothing makes it raise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difference_feedback.judges.final_answer import final_answer, final_answer_reward, matches


@pytest.mark.parametrize(
    ("response", "found"),
    [
        (r"So \boxed{3}, no: \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        ("thinking <answer> 42 </answer>", "42"),
        ("The answer is 7.", "7"),
        ("First answer: 3\nFinal answer: 3.5 cm. Done", "3.5 cm"),
        ("the answer is: (B) because", "(B) because"),
        ("3 plus 8 is 11 . answer: 11", "11"),
        ("12", "12"),
        (r"\boxed{unclosed", r"\boxed{unclosed"),
        ("A long text that goes on and on and never says what it ends with", None),
        ("", None),
    ],
)
def test_the_last_final_answer_is_found(response: str, found: str | None) -> None:
    assert final_answer(response) == found


@pytest.mark.parametrize(
    ("response", "answer", "options", "expected"),
    [
        (r"\boxed{6}", "6", None, True),
        (r"\boxed{6.0}", "6", None, True),
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
