"""Files that commands write: whole or not at all, through links, and never in the place of a device.

What the system refuses becomes one sentence: the place, the reason, and the remedy.
"""

import errno
import os
import re
import shutil
import stat
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from difference_feedback.errors import ConfigError, DataError

ESCAPE = "backslashreplace"  # half of a surrogate pair is no UTF-8; in JSON its escape means the same
TEMPORARY = "difference-feedback-"
"""What the names of this package's temporary files begin with."""
_REMEDIES = {
    errno.ENOSPC: "free space there, or name a place on another disk",
    errno.EDQUOT: "free space there, or name a place on another disk",
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`), or name a place on another disk",
    errno.EROFS: "name a place that can be written",
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.EISDIR: "name a file, for example one in it",
    errno.ENOTDIR: "a part of this path is a file: name another place",
    errno.ENAMETOOLONG: "name one with fewer characters",
    errno.ELOOP: "its links go in a circle: mend them, or name another place",
    errno.ENOENT: "check the spelling, or make it first",
    errno.ENXIO: "nobody reads from it: name another file",
    errno.EPIPE: "the program that read it has ended: let it read to the end, or write to a file",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENFILE: "raise the system's limit on open files",
    errno.EIO: "check the disk, or name a place on another one",
    errno.EADDRINUSE: "name another port, or 0 for a free one",
    errno.ENOMEM: "free memory, or ask for less",
}
LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}\.partial")
"""The name under which a file is written before it gets its own; one stays where the process is killed meanwhile."""
_swept: set[Path] = set()
_LONGEST = 255  # bytes of a name, on every usual file system
_OF_THE_SYSTEM = re.compile(r"\(os error (\d+)\)|\[errno (\d+)\]", re.IGNORECASE)  # of libraries in Rust, and in C++
_OF_TORCH = ("inline_container.cc", "PytorchStreamWriter failed")  # it does not say why it could not write


def explain(error: OSError, path: Path | str | None = None, otherwise: str = "") -> str:
    """What the system refused, as one sentence; `path` is the place where the error does not name it.

    `otherwise` is the remedy where none is known.
    """
    place = error.filename if error.filename is not None else path
    reason = error.strerror or str(error) or type(error).__name__
    named = f"{os.fsdecode(place) if isinstance(place, bytes) else place}: " if place not in (None, "") else ""
    remedy = _REMEDIES.get(error.errno or 0, otherwise)
    if "temporary directory" in reason or _is_temporary(str(place)):
        remedy = "free space there, or set TMPDIR to a folder with room"
    return f"{named}{reason}{f'; {remedy}' if remedy else ''}"


def refusal(error: BaseException) -> OSError | None:
    """The system's refusal that an error stands for, whatever library raised it; None for any other error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and (cause.errno or not cause.__cause__):
            return cause
        text = str(cause)
        if number := _OF_THE_SYSTEM.search(text):
            code = int(number[1] or number[2])
            return OSError(code, os.strerror(code))
        if any(mark in text for mark in _OF_TORCH):
            return OSError(errno.ENOSPC, "a file could not be written, as happens on a full disk")
        if isinstance(cause, ValueError) and "embedded null" in text:
            return OSError(errno.EINVAL, "a path has a NUL character in it; remove it")
        cause = cause.__cause__
    return None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the system that name no file, as that of a full disk, name `path`."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or (str(path) if error.errno else None)
        raise


def is_stdout(path: Path) -> bool:
    """Whether `path` is the standard output: `-`, /dev/stdout, or the file that it goes to."""
    if str(path) == "-":
        return True
    try:
        return os.path.samestat(os.stat(path), os.fstat(1))
    except (OSError, ValueError):
        return False


def same_output(first: Path, second: Path) -> bool:
    """Whether two names are those of one file, which may not exist yet, or of the standard output."""
    if is_stdout(first) or is_stdout(second):
        return is_stdout(first) and is_stdout(second)
    return os.path.realpath(first) == os.path.realpath(second) or (
        first.is_file() and second.is_file() and first.samefile(second)
    )


def check_output(path: Path, option: str = "--output") -> None:
    """Raise `ConfigError` where the file `path` cannot be written. It is left as it is, and no folder is made."""
    if is_stdout(path):
        return
    try:
        target = _target(path)
        if _is_written_in_place(path, target):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        else:
            _try(target.parent)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{option} {_explained(error, path)}.") from None


def check_folder(path: Path, option: str = "--output") -> None:
    """Raise `ConfigError` where files cannot be written to the folder `path`, which need not exist yet."""
    if str(path) == "-":
        raise ConfigError(f"{option} -: a folder is needed, and this is the standard output: name one, or ./- for it.")
    try:
        with suppress(FileNotFoundError):
            if not stat.S_ISDIR(os.stat(path).st_mode):
                raise ConfigError(f"{path} is a file: give {option} an empty or new folder.")
        _try(_target(path))
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        raise ConfigError(f"{option} {_explained(error, path)}.") from None


@contextmanager
def output_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which takes the place of `path` once it is whole: readers see the old file or the new one.

    A link stays, and the file that it leads to is replaced. Its mode and its owner are kept. What is no plain file, as
    a device or a pipe, is written to, and so is a file in a folder that cannot be written. `-` is the standard output.
    Missing folders are made.

    Raises:
        DataError: the file cannot be written. Nothing is left of it.
    """
    partial: Path | None = None
    try:
        if is_stdout(path):
            sys.stdout.flush()
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        target = _target(path)
        if _is_written_in_place(path, target):
            with open(path, "wb", opener=_open_in_place) as file:
                yield file
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial, opened = _open_partial(target)
        with opened as file:
            _keep_mode(target, file)
            yield file
            file.flush()
            os.fsync(file.fileno())
            _replace(partial, target)  # still locked, or another process would take it for a leftover
    except OSError as error:
        error.filename = None  # it may be the temporary name
        raise DataError(f"{explain(error, path)}.") from None
    finally:
        if partial is not None:
            with suppress(OSError):  # it was renamed, or never made
                partial.unlink()


def write_atomically(path: Path, content: str | bytes | Iterable[str]) -> None:
    """Write a text, its parts as they come, or bytes, as `output_file` does. Raises as it does."""
    with output_file(path) as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            parts = [content] if isinstance(content, str) else content
            file.writelines(part.encode("utf-8", ESCAPE) for part in parts)


def _is_temporary(name: str) -> bool:
    try:
        return name.startswith(str(Path(tempfile.gettempdir()) / TEMPORARY))
    except OSError:  # no folder for temporary files can be used
        return False


def _target(path: Path) -> Path:
    """Where links lead to. Raises `OSError` for a name that is too long, and `ValueError` for one with NUL."""
    target = Path(os.path.realpath(path))
    if any(len(os.fsencode(part)) > _LONGEST for part in target.parts):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return target


def _is_written_in_place(path: Path, target: Path) -> bool:
    """Whether `path` cannot or must not be replaced. Raises `OSError` where it cannot be written either."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode) or not target.exists():  # a file without a name, as below /proc/self/fd
        return True
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return not os.access(target.parent, os.W_OK | os.X_OK)


def _open_partial(target: Path) -> tuple[Path, IO[bytes]]:
    """A new file beside `target`, locked for as long as it is open, so that nobody takes it for a leftover."""
    if target.parent not in _swept:  # once a process for each folder
        _swept.add(target.parent)
        remove_leftovers(target.parent)
    name = os.fsdecode(os.fsencode(target.name)[: _LONGEST - 20])
    while True:
        partial = target.with_name(f".{name}.{uuid.uuid4().hex[:8]}.partial")
        file = partial.open("xb")
        if not _lock(file, wait=True) or os.fstat(file.fileno()).st_nlink:
            return partial, file
        file.close()  # removed by another process between the two calls


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes were about to rename: the files that no process has locked."""
    with suppress(OSError):
        for leftover in [entry.path for entry in os.scandir(folder) if LEFTOVER.fullmatch(entry.name)]:
            with suppress(OSError), open(leftover, "rb") as file:
                if _lock(file, wait=False):
                    os.unlink(leftover)


def _lock(file: IO[bytes], *, wait: bool) -> bool:
    """Whether this process has locked the file. Some file systems have no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (ImportError, OSError):
        return False
    return True


def _open_in_place(name: str, flags: int) -> int:
    return os.open(name, (flags & ~os.O_CREAT) | os.O_NOCTTY)


def _keep_mode(target: Path, file: IO[bytes]) -> None:
    """Give the new file the owner and the mode of the one that it replaces, as far as this user may."""
    if not target.exists():
        return
    status = target.stat()
    with suppress(OSError):
        if os.fstat(file.fileno()).st_uid != status.st_uid:
            os.fchown(file.fileno(), status.st_uid, status.st_gid)
    with suppress(OSError):
        os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))


def _replace(partial: Path, target: Path) -> None:
    try:
        os.replace(partial, target)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        shutil.copyfile(partial, target)  # a file that is mounted, as containers do, cannot be replaced


def _try(folder: Path) -> None:
    """Write a file without a name to the folder, or to the nearest one above it that exists."""
    while not folder.exists():
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))
        file.flush()
        os.fsync(file.fileno())


def _explained(error: OSError | ValueError, path: Path) -> str:
    refused = refusal(error)
    if refused is None:
        raise error
    if refused.filename is not None and not os.path.lexists(refused.filename):
        refused.filename = None  # the name of a trial
    return explain(refused, path)
