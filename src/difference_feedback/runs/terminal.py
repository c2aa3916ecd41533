"""What is printed to a terminal: names and texts from outside cannot steer it, hide what they say, or end a command."""

import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

_DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_HIDDEN = "\ufeff\u2028\u2029\u206a\u206b\u206c\u206d\u206e\u206f\ufff9\ufffa\ufffb"


def printable(text: str) -> str:
    """`text` with each character as its escape that a terminal obeys or does not show.

    These are control characters but line breaks and tabs, marks that turn the direction of writing, halves of surrogate
    pairs, and characters that only tag others.
    """
    if text.isprintable():  # false for all of these
        return text
    return "".join(_escaped(character) if _obeyed(character) else character for character in text)


def echo(text: object, err: bool = False) -> None:
    """Print a line as `printable` gives it, unwrapped and without colours."""
    print(printable(str(text)), file=sys.stderr if err else sys.stdout, flush=True)


def _obeyed(character: str) -> bool:
    if character in "\n\t":
        return False
    is_control = unicodedata.category(character) in ("Cc", "Cs")
    return is_control or character in _DIRECTIONS + _HIDDEN or 0xE0000 <= ord(character) < 0xE0080


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class Terminal(Console):
    """A console that prints every text as `printable` gives it."""

    def render_str(self, text: str, **options: Any) -> Text:
        """A text that was handed to the console, or stands in a table, as rich text."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
        """Rich text that others made, such as the name of a progress bar."""
        for segment in super().render(renderable, options):
            is_text = segment.control is None and not segment.text.isprintable()
            yield Segment(printable(segment.text), segment.style) if is_text else segment
