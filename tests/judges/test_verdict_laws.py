"""Laws of the rules: what may stand around an answer, what makes it another, and that equality has two sides."""

import string
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from difference_feedback.judges.rules import matches
from difference_feedback.judges.values.equality import compare
from difference_feedback.judges.values.markup import plain

WRAPPERS = [
    "\\boxed{{{}}}",
    "$$\\boxed{{ {} }}$$",
    "\\fbox{{{}}}",
    "<answer>{}</answer>",
    "<answer>\\boxed{{{}}}</answer>",
    "The answer is {}.",
    "So the final answer is **{}**.",
    "**Answer:** {}",
    "Answer: {}\n\nThis can be checked in the picture.",
    "The answer is 77. Wait, no, the answer is {}.",
    "First \\boxed{{77}}, but after a second look \\boxed{{{}}}",
    "<think>It may be \\boxed{{77}}</think>The answer is {}.",
    "the answer is 77</think>\n\\boxed{{{}}}",
    "It was a long way.\n#### {}",
]
NUMBERS = st.integers(-(10**6), 10**6) | st.decimals(-1000, 1000, places=3)
WORDS = st.text(string.ascii_lowercase, min_size=4, max_size=9).filter(lambda word: word not in ("true", "none"))
METRES = {"mm": Fraction(1, 1000), "cm": Fraction(1, 100), "m": Fraction(1), "km": Fraction(1000)}
# fmt: off
VALUES = st.sampled_from([
    "5", "1/2", "0.5", "50%", r"\frac{1}{2}", r"2\sqrt{3}", r"\sqrt{12}", "x+1", "1+x", "(1,2)", "[1,2]", "1, 2",
    "2,1", r"\{1,2\}", "x = 5", "5 cm", "0.05 m", "5 apples", "3:00 pm", "15:00", "2:4", "1:2", "10-20", "x > 3",
    r"(3,\infty)", "A cat", "a cat", "five", "1,200", "1200", r"\pm 3", "3, -3", "x=3, y=4", "y=4, x=3", "2x+3y=6",
    "4x+6y=12", "3 to 5", "3:5", "May 2, 2020", "2020-05-02", r"\emptyset", r"\{\}", "x<1 or x>2",
    r"(2,\infty)\cup(-\infty,1)",
])
# fmt: on


@pytest.mark.parametrize("wrapper", WRAPPERS)
@given(NUMBERS)
def test_what_stands_around_a_number_does_not_count(wrapper: str, number: object) -> None:
    assume(number != 77)
    assert matches(wrapper.format(number), str(number))
    assert not matches(wrapper.format(number), "77")


@given(st.text(st.characters(exclude_characters="{}\\<[◁|", exclude_categories=("Cs", "Cc")), min_size=1, max_size=60))
def test_an_answer_is_equal_to_itself(text: str) -> None:
    assume(text.strip())
    assert matches(f"\\boxed{{{text}}}", text)


@given(VALUES, VALUES)
def test_equality_has_two_sides(first: str, second: str) -> None:
    assert compare(first, second).equal == compare(second, first).equal


@given(st.text(max_size=60))
def test_one_spelling_stays_as_it_is(text: str) -> None:
    assert plain(plain(plain(text))) == plain(plain(text))


@given(NUMBERS, st.integers(1, 10**9))
def test_another_number_is_wrong(number: object, change: int) -> None:
    other = Fraction(str(number)) + Fraction(change, 10**5)
    assert not matches(f"\\boxed{{{number}}}", f"\\frac{{{other.numerator}}}{{{other.denominator}}}")


@given(st.integers(-999, 999), st.integers(1, 999))
def test_a_fraction_may_be_expanded(top: int, bottom: int) -> None:
    assert matches(f"\\boxed{{\\frac{{{top * 7}}}{{{bottom * 7}}}}}", f"{top}/{bottom}")
    assert not matches(f"\\boxed{{\\frac{{{top + 1}}}{{{bottom}}}}}", f"{top}/{bottom}")


@given(st.integers(1, 10**6), st.sampled_from(sorted(METRES)), st.sampled_from(sorted(METRES)))
def test_lengths_are_equal_in_any_unit(number: int, unit: str, other: str) -> None:
    scaled = number * METRES[unit] / METRES[other]
    assert matches(
        f"\\boxed{{{number} \\text{{ {unit}}}}}", f"\\frac{{{scaled.numerator}}}{{{scaled.denominator}}} {other}"
    )
    if unit != other:
        assert not matches(f"The answer is {number} {unit}.", f"{number} {other}")
    assert not matches(f"The answer is {number} {unit}^2.", f"{number} {unit}")


@given(st.lists(st.integers(-99, 99), min_size=2, max_size=5, unique=True), st.randoms())
def test_order_counts_in_brackets_only(numbers: list[int], random: object) -> None:
    shuffled = list(numbers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    bare, other = ("; ".join(map(str, items)) for items in (numbers, shuffled))
    assert matches(f"\\boxed{{{bare}}}", other)
    assert matches(f"\\boxed{{({bare})}}", f"({other})") == (numbers == shuffled)
    assert not matches(f"\\boxed{{{bare}}}", str(numbers[0]))
    assert not matches(f"\\boxed{{{numbers[0]}}}", bare)


OPTIONS = st.lists(WORDS, min_size=2, max_size=6, unique=True)
NAMED = [
    "{0}",
    "({0})",
    "{0}. {1}",
    "({0}) {1}",
    "{1}",
    "{1} ({0})",
    "The answer is {0}.",
    "The answer is {1}.",
    "{0}: {1}",
]


@given(OPTIONS, st.data(), st.sampled_from(NAMED))
def test_an_option_is_named_by_letter_text_or_both(options: list[str], data: st.DataObject, form: str) -> None:
    place, other = (data.draw(st.integers(0, len(options) - 1)) for _ in range(2))
    response = "\\boxed{" + form.format(chr(65 + place), options[place]) + "}"
    for truth in (chr(65 + other), options[other]):
        assert matches(response, truth, options) == (place == other)
    if place != other:
        contradictory = f"{chr(65 + place)}. {options[other]}"
        assert not any(matches(f"\\boxed{{{contradictory}}}", letter, options) for letter in "ABCDEF"[: len(options)])
        both = f"{chr(65 + place)} or {chr(65 + other)}"
        assert not matches(f"The answer is {both}.", chr(65 + place), options)


@given(OPTIONS, st.randoms())
def test_the_order_of_the_options_moves_the_letter(options: list[str], random: object) -> None:
    moved = list(options)
    random.shuffle(moved)  # type: ignore[attr-defined]
    letter = chr(65 + moved.index(options[0]))
    assert matches(f"The answer is ({letter}).", options[0], moved)
    assert matches(f"\\boxed{{{options[0]}}}", letter, moved)


@given(st.integers(0, 10**4), st.integers(0, 10**4))
def test_two_answers_are_none(first: int, second: int) -> None:
    assume(first != second)
    for form in ("\\boxed{{{} \\text{{ or }} {}}}", "\\boxed{{{}}}\\boxed{{{}}}", "The answer is {} or {}."):
        assert not matches(form.format(first, second), str(first))
        assert not matches(form.format(first, second), str(second))


@given(NUMBERS)
def test_what_is_only_thought_is_no_answer(number: object) -> None:
    for thought in (
        "<think>\\boxed{{{}}}</think>",
        "<think>The answer is {}.",
        "The answer is {}.</think> Well",
        "◁think▷{}◁/think▷",
    ):
        assert not matches(thought.format(number), str(number))
