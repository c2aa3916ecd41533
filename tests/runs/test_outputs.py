"""What is written is whole or not there, stands where a link leads, and takes the place of no device."""

import contextlib
import errno
import os
import pty
import resource
import signal
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from difference_feedback.errors import ConfigError, DataError
from difference_feedback.runs.outputs import (
    check_folder,
    check_output,
    output_file,
    refusal,
    same_output,
    write_atomically,
)


def in_a_process(work: Callable[[], None]) -> int:
    """Call `work` in a process that is no superuser; its exit status, as `os.waitpid` has it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_user_s_own_partial_file_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "out.jsonl.partial"
    mine.write_text("mine")
    for _ in range(2):
        write_atomically(tmp_path / "out.jsonl", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {mine.name: "mine", "out.jsonl": "new"}


@pytest.mark.parametrize("exists", [True, False], ids=["whole", "dangling"])
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, exists: bool) -> None:
    target, link, far = tmp_path / "there" / "target", tmp_path / "link", tmp_path / "far"
    target.parent.mkdir()
    if exists:
        target.write_text("old")
    link.symlink_to(Path("there") / "target")
    far.symlink_to(link)
    write_atomically(far, "new")
    assert far.is_symlink()
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_another_name_of_the_file_keeps_what_it_had(tmp_path: Path) -> None:
    path, other = tmp_path / "out", tmp_path / "other"
    path.write_text("old")
    other.hardlink_to(path)
    write_atomically(path, "new")
    assert (path.read_text(), other.read_text()) == ("new", "old")


def test_the_mode_of_an_existing_file_is_kept_and_a_new_one_follows_the_umask(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch()
    old.chmod(0o640)
    before = os.umask(0o027)
    try:
        for path in (old, new):
            write_atomically(path, "x")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (old, new)] == [0o640, 0o640]
    old.chmod(0o604)
    write_atomically(old, "y")
    assert stat.S_IMODE(old.stat().st_mode) == 0o604


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe, parts = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: parts.append(pipe.read_text()))
    reader.start()
    check_output(pipe)
    write_atomically(pipe, ["one", "two"])
    reader.join()
    assert parts == ["onetwo"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_terminal_is_written_to() -> None:
    terminal, device = pty.openpty()
    name = Path(os.ttyname(device))
    number = name.stat().st_rdev
    write_atomically(name, "seen")
    assert os.read(terminal, 100) == b"seen"
    assert name.stat().st_rdev == number
    os.close(device)
    os.close(terminal)


def test_a_full_device_refuses_and_stays(tmp_path: Path) -> None:
    full = tmp_path / "full"
    try:
        os.mknod(full, stat.S_IFCHR | 0o666, os.makedev(1, 7))
        full.open("wb").close()
    except OSError:  # no superuser, or no devices in this folder: the real one, which such a user cannot replace
        full = Path("/dev/full")
    number = full.stat().st_rdev
    with pytest.raises(DataError, match=r"full: No space left on device; free space"):
        write_atomically(full, "x" * 100_000)
    assert stat.S_ISCHR(full.stat().st_mode)
    assert full.stat().st_rdev == number


def test_an_open_file_without_a_name_is_written_to(tmp_path: Path) -> None:
    source, end = os.pipe()
    write_atomically(Path(f"/proc/self/fd/{end}"), "through")
    assert os.read(source, 100) == b"through"
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        write_atomically(Path(f"/proc/self/fd/{file.fileno()}"), "kept")
        assert file.read() == b"kept"
    assert list(tmp_path.iterdir()) == []


def test_many_writers_of_one_file_leave_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write_atomically(path, (f"{i}\n" for _ in range(3000))), range(32)))
    lines = path.read_text().splitlines()
    assert len(lines) == 3000
    assert len(set(lines)) == 1
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_an_interruption_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "out"
    path.write_text("old")

    def parts() -> Iterator[str]:
        yield "x" * 100_000
        raise error

    with pytest.raises(error):
        write_atomically(path, parts())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_after_a_kill_the_file_is_the_old_one_and_can_be_written_again(open_folder: Path) -> None:
    path = open_folder / "out"
    path.write_text("old")
    open_folder.chmod(0o777)
    path.chmod(0o666)

    def parts() -> Iterator[str]:
        yield "x" * 100_000
        os.kill(os.getpid(), signal.SIGKILL)
        yield "never"

    for _ in range(2):
        assert os.WTERMSIG(in_a_process(lambda: write_atomically(path, parts()))) == signal.SIGKILL
        assert path.read_text() == "old"
    write_atomically(path, "new")
    assert path.read_text() == "new"


def test_a_limit_on_sizes_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(DataError, match=r"out: File too large; raise .*ulimit"):
            write_atomically(path, ("x" * 1000 for _ in range(100)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_hold_and_a_file_in_a_closed_folder_is_written_to(open_folder: Path) -> None:
    mine, closed = open_folder / "mine", open_folder / "closed"
    for path, mode in ((mine, 0o666), (closed, 0o444)):
        path.write_text("a longer text")
        path.chmod(mode)
    open_folder.chmod(0o555)

    def work() -> None:
        check_output(mine)
        write_atomically(mine, "new")
        for path in (closed, open_folder / "another"):
            with pytest.raises(ConfigError, match=f"{path}: Permission denied"):
                check_output(path)
            with pytest.raises(DataError, match=f"{path}: Permission denied"):
                write_atomically(path, "new")
        with pytest.raises(ConfigError, match=r"runs/new: Permission denied"):
            check_folder(open_folder / "runs" / "new")

    assert in_a_process(work) == 0
    assert (mine.read_text(), closed.read_text()) == ("new", "a longer text")
    open_folder.chmod(0o755)


def broken_paths(folder: Path) -> dict[str, Path]:
    """Paths below `folder` where no file can be."""
    (folder / "file").touch()
    (folder / "circle").symlink_to(folder / "circle")
    return {
        "below a file": folder / "file" / "new" / "out",
        "too long": folder / ("x" * 300),
        "below what is too long": folder / "new" / ("x" * 300) / "out",
        "a circle": folder / "circle" / "out",
        "a NUL": folder / "a\0b",
    }


def test_a_place_that_cannot_be_written_is_refused_before_and_while_it_is(tmp_path: Path) -> None:
    places = broken_paths(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for name, path in [*places.items(), ("a folder", tmp_path)]:
        with pytest.raises(ConfigError, match="--html"):
            check_output(path, "--html")
        if name != "a NUL":
            with pytest.raises(DataError, match=";"):
                write_atomically(path, "x")
    for path in [*places.values(), tmp_path / "file", Path("/dev/null")]:
        with pytest.raises(ConfigError, match="--output"):
            check_folder(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_check_leaves_no_trace(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "out")
    check_folder(tmp_path / "new" / "run")
    check_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_names_of_one_output_are_known(tmp_path: Path) -> None:
    path = tmp_path / "out"
    (tmp_path / "link").symlink_to(path)
    assert same_output(tmp_path / "link", path)
    assert same_output(tmp_path / ".." / tmp_path.name / "out", path)
    assert same_output(Path("-"), Path("/dev/stdout"))
    assert not same_output(path, tmp_path / "other")
    assert not same_output(path, Path("-"))


def test_a_refusal_of_the_system_is_known_though_another_error_hides_it() -> None:
    wrapped = RuntimeError("the data set could not be made")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert refusal(wrapped) is wrapped.__cause__
    assert refusal(Exception("I/O error: No space left on device (os error 28)")).errno == errno.ENOSPC


@pytest.mark.parametrize("error", [TypeError("x"), KeyError("errno"), RuntimeError("shape [28]"), ValueError("1")])
def test_a_fault_of_the_program_is_no_refusal(error: Exception) -> None:
    with contextlib.suppress(Exception):
        raise error from None
    assert refusal(error) is None


def test_bytes_and_halves_of_surrogate_pairs_are_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"\xff\x00")
    write_atomically(tmp_path / "b", "\ud83d")
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [b"\xff\x00", b"\\ud83d"]
    with output_file(tmp_path / "a") as file:
        file.write(b"in parts")
    assert (tmp_path / "a").read_bytes() == b"in parts"
