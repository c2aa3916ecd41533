"""Surface forms: the right ways to write an answer, and the places where a wrong answer differs from the truth.

A form is a sequence of fixed words and slots. A *reading* slot takes its value from the image alone; a *derived* slot
computes it from earlier slots. So one description writes the right answer, recognises a wrong one, and separates a root
error (a misreading, or a slip of arithmetic) from a value that merely follows from an earlier error.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Stated = Mapping[str, str]


@dataclass(frozen=True)
class Slot:
    """A value in an answer. `value(stated)` is the value that is right here, given the earlier slots as stated."""

    name: str
    value: Callable[[Stated], str]
    misreadings: tuple[str, ...] = ()
    """The values that a reading could be mistaken for; empty for a derived value."""


def reading(name: str, truth: object, choices: Sequence[object] = range(10)) -> Slot:
    """A value read from the image, one of `choices`; it does not depend on other slots."""
    return Slot(name, lambda _: str(truth), tuple(str(choice) for choice in choices if choice != truth))


def total(name: str, *parts: str) -> Slot:
    """A slot holding the sum of earlier slots."""
    return Slot(name, lambda stated: str(sum(int(stated[part]) for part in parts)))


def copy(name: str, source: str) -> Slot:
    """A slot that restates an earlier one."""
    return Slot(name, lambda stated: stated[source])


@dataclass(frozen=True)
class ErrorSpan:
    """Characters `[start, end)` that state a wrong value; `root` if the value does not follow from earlier errors."""

    start: int
    end: int
    root: bool


@dataclass(frozen=True)
class Form:
    """One way to write the answer to one problem; its pieces are joined by single spaces."""

    pieces: tuple[str | Slot, ...]

    @property
    def readings(self) -> tuple[Slot, ...]:
        """The slots that are read from the image."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Slot) and piece.misreadings)

    def write(self, misread: Stated | None = None) -> str:
        """The correct answer in this form; with `misread`, the wrong answer that follows from those values."""
        stated = misread or {}
        return " ".join(stated.get(slot.name, text) if slot else text for text, slot in self._written(stated))

    def stated(self, response: str) -> dict[str, str] | None:
        """The values of the slots in `response`, by name; None when it does not have this form."""
        match = re.fullmatch(self._pattern(), response)
        return match and match.groupdict()

    def error_spans(self, response: str) -> list[ErrorSpan] | None:
        """The wrong values in `response`; None when it does not have this form."""
        match = re.fullmatch(self._pattern(), response)
        if match is None:
            return None
        truth = {slot.name: text for text, slot in self._written({}) if slot}
        spans = []
        for text, slot in self._written(match.groupdict()):
            if slot and match[slot.name] != truth[slot.name]:
                spans.append(ErrorSpan(*match.span(slot.name), root=match[slot.name] != text))
        return spans

    def _written(self, stated: Stated) -> Iterator[tuple[str, Slot | None]]:
        """Each piece with its right text, given the slots' values in `stated`; slots not in it have right values."""
        values: dict[str, str] = {}
        for piece in self.pieces:
            if not isinstance(piece, Slot):
                yield piece, None
                continue
            try:
                text = piece.value(values)
            except ValueError:  # an earlier slot holds a word instead of a number, so no value follows
                text = ""
            yield text, piece
            values[piece.name] = stated.get(piece.name, text)

    def _pattern(self) -> str:
        return " ".join(f"(?P<{p.name}>-?[a-z0-9]+)" if isinstance(p, Slot) else re.escape(p) for p in self.pieces)
