"""Brackets of a final answer: what stands in them, outside them, and between separators."""

from collections.abc import Iterator, Sequence

from difference_feedback.judges.values.tokens import COMMAND, WORD, Token

OPEN, CLOSE = ("(", "[", "{", "\\{", "\\langle"), (")", "]", "}", "\\}", "\\rangle")


def split(tokens: Sequence[Token], separators: tuple[str, ...]) -> list[list[Token]]:
    """The parts between separators that stand outside all brackets."""
    parts: list[list[Token]] = [[]]
    level = 0
    for token in tokens:
        level += (token.text in OPEN) - (token.text in CLOSE)
        if level <= 0 and token.text.lower() in separators:
            if parts[-1] or token.text not in ("and", "or"):  # "1, and 2"
                parts.append([])
        else:
            parts[-1].append(token)
    return parts


def joined(tokens: Sequence[Token]) -> str:
    return "".join(
        (" " if t.spaced or (t.kind in (WORD, COMMAND) and i and tokens[i - 1].kind == COMMAND) else "") + t.text
        for i, t in enumerate(tokens)
    ).strip()


def outside(tokens: Sequence[Token]) -> Iterator[Token]:
    level = 0
    for token in tokens:
        level += (token.text in OPEN) - (token.text in CLOSE)
        if level <= 0:
            yield token


def enclosed(tokens: Sequence[Token]) -> bool:
    """Whether the first bracket is closed by the last token and not before."""
    level = 0
    for place, token in enumerate(tokens):
        level += (token.text in OPEN) - (token.text in CLOSE)
        if level == 0:
            return place == len(tokens) - 1
    return False
