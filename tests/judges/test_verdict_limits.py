"""No answer takes long, none raises, and neither threads nor signals change a verdict."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from difference_feedback.judges.rules import grade, matches
from difference_feedback.judges.values import equality
from difference_feedback.judges.values.markup import plain
from difference_feedback.judges.values.tokens import tokens_of

LIMIT = 0.05  # seconds of a thread's own time, for one answer
NASTY = {
    "tower": r"\boxed{9^{9^{9^9}}}",
    "plain tower": r"\boxed{9^9^9^9^9}",
    "factorials": r"\boxed{((((9!)!)!)!)!}",
    "exponentials": r"\boxed{e^{e^{e^{e^e}}}}",
    "large sine": r"\boxed{\sin(10^{1000})}",
    "powers": r"\boxed{2^{4000} \cdot 3^{2500}}",
    "binomial": r"\boxed{\binom{500}{250}^{7}}",
    "fractions": "\\boxed{" + "\\frac{1}{" * 60 + "1" + "}" * 61,
    "fractions of x": "\\boxed{" + "\\frac{x+1}{x+" * 18 + "1" + "}" * 19,
    "roots": "\\boxed{" + "\\sqrt{2+" * 36 + "2" + "}" * 37,
    "functions": "\\boxed{" + "\\sin{\\cos{" * 18 + "x" + "}" * 37,
    "tower of x": "\\boxed{x^{x^{x^{x^{x^{x^{x}}}}}}}",
    "digits": "\\boxed{" + "9" * 500 + "/" + "7" * 90 + "}",
    "sum": "\\boxed{" + "x+" * 95 + "x}",
    "brackets": "\\boxed{" + "(" * 290 + "1" + ")" * 290 + "}",
    "nested list": "\\boxed{" + "(1," * 100 + "2" + ")" * 100 + "}",
    "union": "\\boxed{" + "(1,2)\\cup" * 60 + "(1,2)}",
    "list": "\\boxed{" + ", ".join(f"\\sqrt{{{i}}}" for i in range(64, 0, -1)) + "}",
    "long list": "\\boxed{" + ", ".join(map(str, range(10_000))) + "}",
    "matrix": "\\boxed{\\begin{pmatrix}" + "1&2\\\\" * 80 + "\\end{pmatrix}}",
    "repeated answer": "The answer is 5. " * 12_000,
    "repeated phrase": "the answer is " * 14_000,
    "braces": "{" * 100_000,
    "braces in a box": "\\boxed{" + "{" * 100_000,
    "boxes": "\\boxed{" * 14_000,
    "closed boxes": "\\boxed{5} and " * 14_000,
    "thoughts": "<think></think>" * 13_000,
    "tags": "<answer>" * 25_000,
    "letters": "(A) or (B) " * 18_000,
    "options": "option A is wrong. " * 10_000,
    "corrections": "The answer is 5. " + "wait, no " * 20_000,
    "commas": "The answer is " + "," * 100_000,
    "open brackets": "The answer is 5 (" + "(" * 100_000,
    "blanks": "The answer is 5" + " " * 190_000 + "x",
    "lines": "\n" * 200_000,
    "signs": "The answer is 5" + "!" * 3_000,
    "dashes": "The answer is 5 " + "-" * 7_900,
    "units": "\\boxed{5" + " A" * 280 + "}",
    "braces in a tag": "<answer>" + "{" * 1_990 + "</answer>",
    "stars": "*" * 200_000,
    "dollars": "The answer is " + "$" * 190_000,
    "unicode": "½²√" * 60_000,
    "Chinese": "答案是" * 60_000,
    "options in lines": "A. 5\n" * 50_000,
    "letters in lines": "A\nB\n" * 50_000,
    "dashes in lines": "A. 5\n" + ("-" * 1_000 + "x\n") * 200,
    "sides": "\\boxed{" + " = ".join(["1+1"] * 90) + "}",
    "words": "Because the answer of the problem in question that we think of " * 3_000,
}
TRUTHS = ["5", "B", r"\sqrt{2}x+1", ", ".join(f"\\sqrt{{{i}}}" for i in range(1, 65))]
OPTIONS = ["5", "6", r"\sqrt{2}", "(A) or (B)"]


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    grade(r"\boxed{\sin x + \sqrt{2}}", "3")  # tables are made and mpmath computes its constants once


def _seconds(response: str, truth: str, options: list[str] | None) -> float:
    """This thread's own time for an answer that nothing is remembered of."""
    for remembered in (equality.compare, equality.read, plain, tokens_of):
        remembered.cache_clear()
    start = time.thread_time()
    grade(response, truth, options)
    return time.thread_time() - start


def _too_slow(truths: list[str]) -> set[str]:
    """The responses that take longer than the limit, twice."""
    return {
        name
        for name, response in NASTY.items()
        for truth in truths
        for options in (None, OPTIONS)
        if _seconds(response, truth, options) > LIMIT and _seconds(response, truth, options) > LIMIT
    }


def test_no_answer_takes_long() -> None:
    assert _too_slow(TRUTHS) == set()


def test_the_limit_holds_on_several_threads_at_once() -> None:
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(_too_slow, [TRUTHS[:1], TRUTHS[2:3]])) == [set(), set()]


ANSWERS = [
    (r"\boxed{\frac{\sqrt{3}}{2}}", r"\sin 60^\circ", True),
    (r"\boxed{2\sqrt{3}}", r"\sqrt{12}", True),
    (r"\boxed{2\sqrt{3}}", r"\sqrt{13}", False),
    (r"\boxed{(x+1)^5}", "x^5+5x^4+10x^3+10x^2+5x+1", True),
    (r"\boxed{(x+1)^5}", "x^5+5x^4+10x^3+10x^2+5x+2", False),
    ("The answer is 3 1/2 cm.", "3.5", True),
    ("The answer is (B).", "B", True),
]


def test_threads_get_the_verdicts_of_one_thread() -> None:
    verdicts: list[bool] = []

    def work() -> None:
        for i in range(200):
            equality.compare.cache_clear()
            response, answer, right = ANSWERS[i % len(ANSWERS)]
            verdicts.append(matches(response, answer) is right)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(verdicts) == 800
    assert all(verdicts)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no interval timers")
def test_a_verdict_that_a_signal_interrupts_changes_no_later_one() -> None:
    """A caller's own time limit ends a call anywhere. The next answers are graded as if it had not been made."""

    class TimeIsUp(Exception):
        pass

    def ring(*_: object) -> None:
        raise TimeIsUp

    interrupted = 0
    before = signal.signal(signal.SIGALRM, ring)
    try:
        for i in range(300):
            response, answer, right = ANSWERS[i % len(ANSWERS)]
            equality.compare.cache_clear()
            equality.read.cache_clear()
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 * (1 + i % 60))
                grade(response, answer)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except TimeIsUp:
                interrupted += 1
            assert matches(response, answer) is right
            other = ANSWERS[(i + 1) % len(ANSWERS)]
            assert matches(other[0], other[1]) is other[2]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 20


PIECES = st.sampled_from(
    [
        *"0123456789.,:;=+-*/^_!%'\"°|()[]{}<>$ xyABei½²√π三个&",
        *[
            r"\frac",
            r"\sqrt",
            r"{1}",
            r"{x}",
            r"\boxed{",
            r"\text{",
            r"\cup",
            r"\pm",
            r"\infty",
            r"\le",
            r"\in",
            r"\{",
            r"\}",
            r"\begin{pmatrix}",
            r"\end{pmatrix}",
            r"\\",
            r"\sin",
            r"\log",
        ],
        *[
            r"\overline",
            r"\dot",
            r"\pmod",
            r"\binom",
            r"\angle",
            r"cm",
            r"\$",
            r"half",
            r"twenty",
            r"...",
            r"1,000",
            r"12:30",
            r"pm",
        ],
        *(" and ", " to ", " or ", "not ", " m", " million", "3 1/2", "March 5, 2020"),
    ]
)


@given(st.lists(PIECES, max_size=25).map("".join), st.lists(PIECES, max_size=12).map("".join))
def test_no_mixture_of_signs_makes_it_raise(answer: str, truth: str) -> None:
    for response in (answer, f"\\boxed{{{answer}}}", f"The answer is {answer}."):
        for options in (None, [truth, answer, "5"]):
            assert matches(response, truth, options) in (True, False)
