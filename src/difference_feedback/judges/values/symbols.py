"""Names, functions and numbers in expressions: which letters are products, and which are words."""

from collections.abc import Sequence
from fractions import Fraction

from difference_feedback.judges.values.tokens import COMMAND, NUMBER, WORD, Token

_POWERS = 400  # decimal places and exponents of decimals
# fmt: off
FUNCTIONS = frozenset({
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "asin", "acos", "atan", "sinh", "cosh",
    "tanh", "log", "lg", "ln", "exp", "sqrt", "abs",
})
GREEK = frozenset({
    "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta", "vartheta", "kappa", "lambda",
    "mu", "nu", "xi", "rho", "sigma", "tau", "phi", "varphi", "chi", "psi", "omega", "Gamma", "Delta", "Theta",
    "Lambda", "Sigma", "Phi", "Psi", "Omega", "ell",
})
# fmt: on


class Unreadable(ValueError):
    """The text is no expression, or one that can be read in several ways, or one that is too large."""


def is_word(token: Token) -> bool:
    """Whether a token is letters that are no constant."""
    return token.kind == WORD and token.text.lower() not in ("pi", "infinity")


def decimal(text: str) -> Fraction:
    """The value of a number token. Raises `Unreadable` when it is longer than any number in an answer."""
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) > _POWERS or (exponent and abs(int(exponent)) > _POWERS):
        raise Unreadable("too large")
    return Fraction(text)


def split_words(tokens: Sequence[Token]) -> list[Token]:
    """Runs of two letters as products, or of up to four after a number (`3xyz`). Words are `Unreadable`."""
    result: list[Token] = []
    for place, token in enumerate(tokens):
        word = token.text
        if token.kind != WORD or len(word) == 1 or word in FUNCTIONS:
            if token.kind == WORD and len(word) == 1 and not (word.isascii() or word == "π"):
                raise Unreadable(word)
            result.append(token)
            continue
        if word.lower() == "pi":
            result.append(Token(COMMAND, "\\pi", token.spaced))
            continue
        if word == "infinity":
            result.append(Token(COMMAND, "\\infty", token.spaced))
            continue
        after_number = place > 0 and tokens[place - 1].kind == NUMBER and not token.spaced
        if not word.isascii() or len(word) > (4 if after_number else 2):
            raise Unreadable(word)
        if after_number and word.startswith("pi"):
            result += [Token(COMMAND, "\\pi"), *(Token(WORD, letter) for letter in word[2:])]
            continue
        result += [Token(WORD, letter, token.spaced and i == 0) for i, letter in enumerate(word)]
    return result
