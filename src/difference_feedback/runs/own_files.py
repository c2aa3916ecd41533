"""What runs write to their folders: how it is removed for a run that starts anew, and what people made of it is kept.

A name that is on no list here is taken for a user's own file, which no command removes.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from difference_feedback.errors import ConfigError
from difference_feedback.runs.lock import HOLDER, LOCK
from difference_feedback.runs.outputs import LEFTOVER, write_atomically

FOLDERS = re.compile(r"benchmarks(-checkpoint-\d+)?|cells|checkpoints|model|shared|submissions|validation")
PICTURES = {"audit_images", "images"}
START = {"config.yaml", "versions.json"}
FILES = START | {
    "answers.jsonl",
    "audits.jsonl",
    "drift.json",
    "examples.jsonl",
    "harness.log",
    "hub.json",
    "items.jsonl",
    "metrics.jsonl",
    "oracle_repairs.jsonl",
    "predictions.jsonl",
    "repair_check.html",
    "repairs.jsonl",
    "report.html",
    "requests.jsonl",
    "requests.jsonl.partial",
    "responses.jsonl",
    "results.jsonl",
    "summary.json",
    "test.parquet",
    "train.parquet",
    "verl.log",
    "verl_metrics.jsonl",
    "work.json",
}
LOGS = re.compile(r"vllm_\w+\.log")
OF_THE_PAGE = re.compile(r"(items|oracle_repairs)\.(drafted|claims)\.jsonl")
OF_PEOPLE = re.compile(r"(items|oracle_repairs)\.(annotated|skipped)\.jsonl|reviews\.jsonl")
PICTURE = re.compile(r"((.*-)?[0-9a-f]{10}|example-\d+)-\d+\.png|[0-9a-f]{12}\.png|[0-9a-f]{20}\.png")
MARKER = ".overwriting"
"""Names the folder that keeps people's work. It is there from the first removal until the new run has its recipe."""
KEPT = "annotated"
ALWAYS = {LOCK, HOLDER}
"""Names in a run's folder that say nothing of the run."""


def is_own(name: str) -> bool:
    """Whether a run, or a page on its results, writes a file of this name to the run's folder."""
    plain = name.removesuffix(".lock")
    return plain in FILES or any(kind.fullmatch(plain) for kind in (LOGS, LEFTOVER, OF_THE_PAGE, OF_PEOPLE))


def remove_run(folder: Path) -> Path | None:
    """Remove a run's files and those of its parts, and nothing else. Links are removed, and not what they lead to.

    Repairs, skips and reviews by people, and what they belong to, are moved to a new folder below, which is returned.
    A call that was interrupted is continued by the next one: `MARKER` stays, for the caller to remove.

    Raises `ConfigError` where the system refuses to remove a file.
    """
    try:
        if not (folder / MARKER).is_file():
            write_atomically(folder / MARKER, _new_name(folder))
        kept = folder / (folder / MARKER).read_text(encoding="utf-8")
        for part in _parts(folder):
            _keep_work(part, kept / part.relative_to(folder))
        _remove_files(folder)
    except OSError as error:
        raise ConfigError(f"--overwrite: {error.filename}: {error.strerror}: remove it, or give --output.") from None
    return kept if kept.is_dir() else None


def _new_name(folder: Path) -> str:
    number = 1
    while (folder / KEPT / str(number)).exists():
        number += 1
    return f"{KEPT}/{number}"


def _parts(folder: Path) -> Iterator[Path]:
    """The folder, and all folders of the run below it."""
    yield folder
    for part in sorted(folder.iterdir()):
        if part.is_dir() and not part.is_symlink() and _is_of_run(part):
            yield from _parts(part)


def _is_of_run(folder: Path) -> bool:
    return bool(FOLDERS.fullmatch(folder.name)) or (folder / "versions.json").is_file()


def _keep_work(folder: Path, kept: Path) -> None:
    """Move what people wrote, and the rows and pictures that it belongs to. Their own files go last.

    As long as one of them is there, the rest has to be moved.
    """
    people = [path for path in sorted(folder.iterdir()) if OF_PEOPLE.fullmatch(path.name)]
    if not people:
        return
    kept.mkdir(parents=True, exist_ok=True)
    names = ["items.jsonl", "items.drafted.jsonl", "oracle_repairs.jsonl", "audits.jsonl", *sorted(PICTURES)]
    for path in [*(folder / name for name in names), *people]:
        if path.exists() and not (kept / path.name).exists():
            path.rename(kept / path.name)


def _remove_files(folder: Path) -> None:
    """Remove a run's files, and what marks the folder as a run's last of all."""
    # A run whose summary stays behind would count as finished.
    order = sorted(folder.iterdir(), key=lambda path: (path.name in START, path.name != "summary.json", path.name))
    for path in order:
        if path.name in PICTURES and path.is_dir() and not path.is_symlink():
            for picture in path.iterdir():
                if PICTURE.fullmatch(picture.name) or LEFTOVER.fullmatch(picture.name):
                    picture.unlink(missing_ok=True)
            with suppress(OSError):  # a user's own pictures are there, too
                path.rmdir()
        elif path.is_dir() and not path.is_symlink():
            if _is_of_run(path):
                shutil.rmtree(path)
        elif is_own(path.name) or path.name in PICTURES or FOLDERS.fullmatch(path.name):
            path.unlink(missing_ok=True)
