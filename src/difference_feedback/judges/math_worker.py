"""The process behind `math_answers`: a pair of expressions a line, as JSON, and a verdict a line back."""

import json
import logging
import sys
from typing import Any

import sympy
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

_FAR = 1e-3  # relative: far beyond rounding, so that what is left to the slow comparison may still be equal


def differ(one: Any, two: Any) -> bool:
    """Whether two parsed expressions have clearly different values, at one point where they have variables.

    Most answers are wrong, and this tells so fifty times as fast as a symbolic comparison.
    """
    if not (isinstance(one, sympy.Expr) and isinstance(two, sympy.Expr)):
        return False
    names = sorted(one.free_symbols | two.free_symbols, key=str)
    point = {name: sympy.Float(0.7390851 + 0.2718281 * i) for i, name in enumerate(names)}
    try:
        a, b = (complex(sympy.N(expression.subs(point), 15)) for expression in (one, two))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return False
    return abs(a - b) > _FAR * max(1.0, abs(a), abs(b))


def main() -> None:
    logging.disable(logging.CRITICAL)
    config = [LatexExtractionConfig(), ExprExtractionConfig()]
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        verdict = "unreadable"
        try:
            answer, truth = (
                # Without fallback strings: what does not parse is for the text rule, not for this one.
                parse(f"${text}$", config, fallback_mode="no_fallback", parsing_timeout=None)
                for text in json.loads(line)
            )
            if answer and truth:
                same = not differ(answer[0], truth[0]) and verify(truth, answer, timeout_seconds=None)
                verdict = "equal" if same else "different"
        except Exception:  # whatever a parser may raise on text that a model wrote
            verdict = "unreadable"
        print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    main()
