"""The values of expressions, and whether two expressions are equal: exactly for fractions, else to 25 digits.

Expressions with variables are compared at three points. No expression is rewritten, so the time is bounded by the size
of the two: a value that is too large raises `Unreadable`, and nothing runs for longer than milliseconds.
"""

import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import mpmath

from difference_feedback.judges.values.expressions import Tree, Unreadable

_DIGITS = 50
_BITS = 4000  # of a fraction's numerator and denominator, and of the magnitude of any value
_POINTS = 4
_SAME = 1e-25  # relative difference of equal values
_NOISE = 1e-40  # relative to the largest value met on the way
_local = threading.local()

Value = Any  # Fraction, or mpmath's real or complex number


def equal(first: Tree, second: Tree) -> bool:
    """Whether two expressions have equal values, wherever they have variables. Raises `Unreadable`."""
    for point in range(_POINTS if names_of(first) | names_of(second) else 1):
        a, b = Evaluator(point), Evaluator(point)
        if not close(a.value(first), b.value(second), max(a.largest, b.largest)):
            return False
    return True


def proportional(first: Tree, second: Tree, positive: bool = False) -> bool:
    """Whether two expressions differ by a constant factor (greater than 0 with `positive`) that is not 0."""
    if names_of(first) != names_of(second):
        return False
    ratio: Value = None
    for point in range(_POINTS):
        a, b = Evaluator(point), Evaluator(point)
        x, y = a.value(first), b.value(second)
        if not x or not y:
            raise Unreadable("0 at a point")
        quotient = a.divide(x, y)
        if isinstance(quotient, _mp().mpc) and abs(quotient.imag) > _SAME:
            return False
        if positive and (quotient.real if hasattr(quotient, "real") else quotient) < 0:
            return False
        if ratio is not None and not close(ratio, quotient, 1):
            return False
        ratio = quotient
    return True


def close(a: Value, b: Value, scale: Value = 1) -> bool:
    """Whether two values are equal but for rounding."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    a, b = real_or_complex(a), real_or_complex(b)
    difference = abs(a - b)
    return bool(difference <= _SAME * max(abs(a), abs(b)) or difference <= _NOISE * scale)


def names_of(tree: Tree) -> frozenset[str]:
    """The variables of an expression."""
    if tree[0] == "name":
        return frozenset({tree[1]})
    return frozenset().union(*(names_of(part) for part in tree[1:] if isinstance(part, tuple)))


def has(tree: Tree, operation: str) -> bool:
    """Whether an operation occurs in an expression."""
    return tree[0] == operation or any(has(part, operation) for part in tree[1:] if isinstance(part, tuple))


def both_signs(tree: Tree) -> Iterator[Tree]:
    """The two expressions that one with ± stands for; the expression itself without one."""
    if not has(tree, "±"):
        yield tree
        return
    for plus in (True, False):
        yield _signed(tree, plus)


def _signed(tree: Tree, plus: bool) -> Tree:
    if tree[0] in ("±", "∓"):
        sign = "+" if plus == (tree[0] == "±") else "-"
        return (sign, *(_signed(part, plus) for part in tree[1:]))
    return tuple(_signed(part, plus) if isinstance(part, tuple) else part for part in tree)


def _mp() -> Any:
    """This thread's own context: mpmath's precision is a state of the context."""
    if not hasattr(_local, "context"):
        _local.context = mpmath.MPContext()
    _local.context.dps = _DIGITS  # also after a call that a signal has interrupted
    return _local.context


def real_or_complex(value: Value) -> Any:
    """A value as mpmath's number."""
    return _mp().mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def value_of(tree: Tree) -> Value:
    """The value of an expression without variables. Raises `Unreadable`."""
    if names_of(tree):
        raise Unreadable("a variable")
    return Evaluator(0).value(tree)


@contextmanager
def _unreadable_errors() -> Iterator[None]:
    try:
        yield
    except (ValueError, ArithmeticError, TypeError, NotImplementedError, RecursionError) as error:
        raise Unreadable(str(error)) from None


class Evaluator:
    """Evaluates an expression at a point. `largest` is the magnitude of the largest summand that was rounded."""

    def __init__(self, point: int) -> None:
        self.point = point
        self.largest: Value = 0
        self._context = _mp()

    def value(self, tree: Tree) -> Value:
        """The value of an expression. Raises `Unreadable` for what has none, or one that is too large."""
        with _unreadable_errors():
            return self._value(tree)

    def _value(self, tree: Tree) -> Value:
        operation = tree[0]
        if operation == "number":
            return tree[1]
        if operation == "name":
            return _place_of(tree[1], self.point)
        if operation in _CONSTANTS:
            return _CONSTANTS[operation](self._context)
        if operation not in _OPERATIONS:
            raise Unreadable(operation)
        result = _OPERATIONS[operation](self, *(self._value(part) for part in tree[1:]))
        return self._bounded(result)

    def _bounded(self, value: Value) -> Value:
        if isinstance(value, Fraction):
            if max(value.numerator.bit_length(), value.denominator.bit_length()) > _BITS:
                raise Unreadable("too large")
        elif not self._context.isfinite(value) or (value and abs(self._context.mag(value)) > _BITS):
            raise Unreadable("too large")
        return value

    def add(self, a: Value, b: Value) -> Value:
        """The sum; exact for fractions, as are the product, the quotient and powers."""
        if _exact(a, b):
            return a + b
        a, b = real_or_complex(a), real_or_complex(b)
        self.largest = max(self.largest, abs(a), abs(b))
        return a + b

    def multiply(self, a: Value, b: Value) -> Value:
        """The product."""
        return a * b if _exact(a, b) else real_or_complex(a) * real_or_complex(b)

    def divide(self, a: Value, b: Value) -> Value:
        """The quotient."""
        if not b:
            raise Unreadable("division by 0")
        return a / b if _exact(a, b) else real_or_complex(a) / real_or_complex(b)

    def power(self, base: Value, exponent: Value) -> Value:
        """The power; its principal value where there are several."""
        if isinstance(exponent, Fraction) and exponent.denominator == 1:
            count = int(exponent)
            if not base and count <= 0:
                raise Unreadable("0 to the power of 0")
            if isinstance(base, Fraction):
                if abs(count) * max(base.numerator.bit_length(), base.denominator.bit_length()) > 2 * _BITS:
                    if abs(base) != 1:
                        raise Unreadable("too large")
                    count %= 2
                return Fraction(base) ** count
            if abs(count) > _BITS:
                raise Unreadable("too large")
        base, exponent = real_or_complex(base), real_or_complex(exponent)
        if not base:
            return Fraction(0)
        if abs(exponent) * (abs(self._context.mag(base)) + 2) > 2 * _BITS:
            raise Unreadable("too large")
        return self._context.power(base, exponent)

    def root(self, radicand: Value, index: Value) -> Value:
        """The root; the real one of a negative fraction with an odd index."""
        if not index:
            raise Unreadable("a root of index 0")
        odd = isinstance(index, Fraction) and index.denominator == 1 and index % 2
        if odd and isinstance(radicand, Fraction) and radicand < 0:
            return -self.power(-radicand, 1 / index)
        if index == 2:
            return self._context.sqrt(real_or_complex(radicand))
        return self.power(radicand, self.divide(Fraction(1), index))

    def factorial(self, value: Value) -> Value:
        """The factorial of a whole number."""
        if isinstance(value, Fraction) and value.denominator == 1 and value >= 0:
            return Fraction(_factorial(int(value)))
        raise Unreadable("a factorial")

    def binomial(self, top: Value, bottom: Value) -> Value:
        """The binomial coefficient."""
        return self.divide(self.factorial(top), self.factorial(bottom) * self.factorial(top - bottom))

    def rounded(self, value: Value, up: bool) -> Value:
        """The next whole number."""
        if not isinstance(value, Fraction):
            nearest = self._context.nint(value)
            value = nearest if abs(value - nearest) < _SAME else value
            return Fraction(int(self._context.ceil(value) if up else self._context.floor(value)))
        return Fraction(-(-value // 1) if up else value // 1)

    def logarithm(self, value: Value, base: Value) -> Value:
        """The logarithm to a base."""
        context = self._context
        return context.log(real_or_complex(value)) / context.log(real_or_complex(base))


def _exact(a: Value, b: Value) -> bool:
    return isinstance(a, Fraction) and isinstance(b, Fraction)


def _function(name: str, inverse: bool = False) -> Callable[[Evaluator, Value], Value]:
    def function(evaluation: Evaluator, value: Value) -> Value:
        result = getattr(evaluation._context, name)(real_or_complex(value))
        evaluation.largest = max(evaluation.largest, 1)  # sin(pi) is 0 but for rounding
        return 1 / result if inverse else result

    return function


def _factorial(number: int) -> int:
    if number > 500:
        raise Unreadable("too large")
    result = 1
    for factor in range(2, number + 1):
        result *= factor
    return result


def _place_of(name: str, point: int) -> Fraction:
    """Where a variable is at a point: positive, negative, of either sign, small."""
    code = zlib.crc32(f"{name} {point}".encode())
    size = Fraction(700 + code % 1009, 997)
    negative = point == 1 or (point == 2 and code & 2048)
    return (-size if negative else size) / (7 if point == 3 else 1)


_CONSTANTS: dict[str, Callable[[Any], Any]] = {
    "pi": lambda mp: +mp.pi,
    "e": lambda mp: +mp.e,
    "i": lambda mp: mp.mpc(0, 1),
}
_OPERATIONS: dict[str, Callable[..., Value]] = {
    "+": Evaluator.add,
    "-": lambda evaluation, a, b: evaluation.add(a, -b),
    "*": Evaluator.multiply,
    "/": Evaluator.divide,
    "^": Evaluator.power,
    "root": Evaluator.root,
    "!": Evaluator.factorial,
    "binomial": Evaluator.binomial,
    "floor": lambda evaluation, value: evaluation.rounded(value, up=False),
    "ceil": lambda evaluation, value: evaluation.rounded(value, up=True),
    "log": Evaluator.logarithm,
    "abs": lambda _, value: abs(value),
    "°": lambda evaluation, value: real_or_complex(value) * +evaluation._context.pi / 180,
    "%": lambda evaluation, value: evaluation.divide(value, Fraction(100)),
    "ln": _function("log"),
    "exp": lambda evaluation, value: evaluation.power(+evaluation._context.e, value),
    **{name: _function(name) for name in ("sin", "cos", "tan", "asin", "acos", "atan")},
    **{f"arc{name}": _function(f"a{name}") for name in ("sin", "cos", "tan")},
    "cot": _function("tan", inverse=True),
    "sec": _function("cos", inverse=True),
    "csc": _function("sin", inverse=True),
}
for _name in ("sinh", "cosh", "tanh"):
    _OPERATIONS[_name] = lambda evaluation, value, name=_name: (
        getattr(evaluation._context, name)(real_or_complex(value)) if abs(value) < 1000 else _too_large()
    )


def _too_large() -> Value:
    raise Unreadable("too large")
