"""The files that rows name: where they may lie, and that they are files. One rule for every reader of rows.

A row can come from anybody. What it names is read only from the folder of its file, or from one that the user names.
"""

import os
import re
import stat
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from difference_feedback.errors import DataError

_LONGEST = 4096  # bytes of a path, on Linux


def named_file(name: str, folders: Sequence[Path], *, remedy: str, takes_folders: bool = False) -> Path:
    """The regular file that a row names: `name` is absolute, or relative to the first of the `folders` that has it.

    The file itself must lie in one of the `folders`, where links are followed to their targets. With `takes_folders`
    a folder will do. `remedy` is the end of the message for a file outside; `{above}` in it becomes the file's folder.

    Raises `DataError` for addresses on the web, for files outside, and where there is no such file.
    """
    if re.match(r"[a-z][a-z0-9+.-]+://", name, re.IGNORECASE) and not name.startswith("file:///"):
        raise DataError(f"{_short(name)} is on the web: download it, and give its path.")
    name = name.removeprefix("file://")
    if "\0" in name or len(name) > _LONGEST:
        raise DataError(f"a text of {len(name)} characters that is neither a path nor base64: give a path.")
    outside: str | None = None
    for folder in folders:
        for text in _spellings(name):
            path = Path(os.path.abspath(os.path.join(folder, os.path.expanduser(text))))
            try:
                mode = path.stat().st_mode
                if not (stat.S_ISREG(mode) or (takes_folders and stat.S_ISDIR(mode))):
                    continue
                if any(path.resolve().is_relative_to(allowed.resolve()) for allowed in folders):
                    return path
            except (OSError, ValueError):  # a name that no file can have
                continue
            outside = outside or str(path.resolve().parent)
    whole = list(dict.fromkeys(os.path.abspath(folder) for folder in folders))
    if outside is not None:
        raise DataError(f"{_short(name)!r} lies outside {whole[0]!r}: {remedy.format(above=_short(outside))}.")
    raise DataError(f"there is no file {_short(name)!r}: give a path relative to {', or '.join(map(repr, whole[:2]))}.")


def _spellings(name: str) -> tuple[str, ...]:
    """The name, and as file systems may write it: é in one sign or in two, and slashes for those of Windows."""
    return name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name), name.replace("\\", "/")


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:100]}...{text[-60:]}"
