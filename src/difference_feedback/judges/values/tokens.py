"""The tokens of a final answer, and when two answers are the same text."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

NUMBER, WORD, COMMAND, SIGN = "number", "word", "command", "sign"
_TOKEN = re.compile(
    r"(?P<space>\s*)(?:"
    r"(?P<number>(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{1,3}(?![\w.]))?)"
    r"|(?P<word>[^\W\d_]+)"
    r"|(?P<command>\\(?:[A-Za-z]+|[{}|\\]))"
    r"|(?P<sign>\*\*|\.\.\.|''|\S))"
)


class Token(NamedTuple):
    """A number, a run of letters, a TeX command or a sign; `spaced`: there is a space before it."""

    kind: str
    text: str
    spaced: bool = False


@lru_cache(maxsize=16_384)
def tokens_of(text: str) -> tuple[Token, ...]:
    r"""The tokens of a `markup.plain` text. After `\frac` and `\sqrt` without braces each digit is a token."""
    tokens: list[Token] = []
    arguments = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or SIGN
        value, spaced = match[kind], bool(match["space"])
        if arguments and kind == NUMBER and value.isdigit() and len(value) >= arguments:
            tokens += [Token(NUMBER, digit, spaced) for digit in value[:arguments]]
            if value[arguments:]:
                tokens.append(Token(NUMBER, value[arguments:]))
            arguments = 0
            continue
        arguments = {"\\frac": 2, "\\binom": 2, "\\sqrt": 1}.get(value, 0)
        tokens.append(Token(kind, {"**": "^", "''": '"'}.get(value, value), spaced))
    return tuple(tokens)


def same_text(first: Sequence[Token], second: Sequence[Token]) -> bool:
    """Whether two answers are the same text. Spaces between words, articles and mostly case do not count.

    Case counts where it carries meaning: beside numbers (`5 mW`), in short mixed words (`CO`, `Co`), in single letters.
    """
    a, b = _canonical(first), _canonical(second)
    if not a or [text.casefold() for text in a] != [text.casefold() for text in b]:
        return False
    if any(x != y for x, y in zip(a, b, strict=True) if x.startswith("\\")):
        return False
    formula = any(text[0].isdigit() for text in a)
    letters = all(len(text) == 1 for text in a if text[0].isalpha())
    return all(_same_case(x, y, formula or letters) for x, y in zip(a, b, strict=True))


def _same_case(first: str, second: str, strictly: bool) -> bool:
    if first == second or len(first) > 4:
        return True
    capitals = [text[1:] != text[1:].lower() for text in (first, second)]
    if all(capitals) or (strictly and len(first) <= 2):
        return False
    return not ((len(first) <= 2 or strictly) and all(text != text.lower() for text in (first, second)))


def _canonical(tokens: Sequence[Token]) -> list[str]:
    if len(tokens) > 1 and tokens[0].text.lower() in ("a", "an", "the") and tokens[1].kind == WORD and tokens[1].spaced:
        tokens = tokens[1:]
    texts: list[str] = []
    words = False
    place = 0
    closed = max((i for i, token in enumerate(tokens[:-1]) if token.text == "}"), default=-1)
    while place < len(tokens):
        token = tokens[place]
        if token.text == "{":
            inner = tokens[place + 1 : place + 3]
            if len(inner) == 2 and inner[1].text == "}":  # `{x}` is `x`
                texts.append(inner[0].text)
                place, words = place + 3, False
                continue
            end = len(tokens) - 1
            if (
                place > closed and tokens[end].text == "}" and tokens[end - 1].text in "+-"
            ):  # a charge, `^{2+}`, is `^2+`
                texts += [t.text for t in tokens[place + 1 : end]]
                break
        after = [t.kind for t in tokens[place + 1 : place + 3]]
        if token.text == "_" and texts and texts[-1][0].isupper() and after[:1] == [NUMBER] and after != [NUMBER] * 2:
            place, words = place + 1, False  # H_2O is H2O
            continue
        if token.kind == WORD and words:
            texts[-1] += token.text
        else:
            texts.append("\\cdot" if token.text in ("*", "\\times") else token.text)
        words = token.kind == WORD
        place += 1
    return texts
