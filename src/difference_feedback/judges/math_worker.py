"""The process behind `math_answers`: it reads pairs of expressions and writes verdicts, one per line, as JSON."""

import json
import logging
import sys
from typing import Any

import sympy
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

_FAR = 1e-3  # relative difference far above rounding errors


def differ(answer: Any, truth: Any) -> bool:
    """Whether two parsed expressions clearly have different values, at one point if they have variables.

    Most answers are wrong, and this finds out fifty times as fast as the symbolic comparison.
    """
    if not (isinstance(answer, sympy.Expr) and isinstance(truth, sympy.Expr)):
        return False
    names = sorted(answer.free_symbols | truth.free_symbols, key=str)
    point = {name: sympy.Float(0.7390851 + 0.2718281 * i) for i, name in enumerate(names)}
    try:
        a, b = (complex(sympy.N(expression.subs(point), 15)) for expression in (answer, truth))
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
                # No fallback to strings: the text rule has compared them already.
                parse(f"${text}$", config, fallback_mode="no_fallback", parsing_timeout=None)
                for text in json.loads(line)
            )
            if answer and truth:
                same = not differ(answer[0], truth[0]) and verify(truth, answer, timeout_seconds=None)
                verdict = "equal" if same else "different"
        except Exception:  # a parser may raise anything on text that a model wrote
            verdict = "unreadable"
        print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    main()
