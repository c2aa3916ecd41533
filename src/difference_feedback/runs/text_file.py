"""A small text file that a recipe is, or names: its size is limited, and it is read as what it is."""

import codecs
from pathlib import Path

from difference_feedback.errors import ConfigError

MOST_BYTES = 1_000_000
"""Size of a file. A recipe has a few thousand."""
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: Path, place: str = "") -> str:
    """The text of a file in UTF-8, or in what its byte order mark says; lines end in `\\n`.

    Raises `ConfigError` for a file that cannot be read, is too large, or is no text. `place` is what messages begin
    with; by default the path.
    """
    place = place or str(path)
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{place}: this is {'a folder' if path.is_dir() else 'no ordinary file'}: give a file.")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except ConfigError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{place}: {reason}: give a file that can be read.") from None
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{place}: the file has more than {MOST_BYTES:,} bytes: give a smaller one.")
    encoding = next((name for mark, name in _BOMS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{data[error.start]:02x}"
        raise ConfigError(f"{place}, line {line}: {byte} is no text in {encoding.upper()}: save it as UTF-8.") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
