"""Which checkpoints of a run are whole. One may be cut off by a kill or a full disk while it is written or removed.

A checkpoint is sealed when all ranks have written their parts of it: `files.json`, the last file, has the size of every
other. Checkpoints without a seal, of the release before or of a run that was killed just before it, are read as far as
their formats tell whether a file was cut off.
"""

import json
import os
import re
import zipfile
from pathlib import Path

from difference_feedback.runs.model_folder import why_cut
from difference_feedback.runs.outputs import LEFTOVER, write_atomically

SEAL = "files.json"
STATE = "trainer_state.json"
_NAME = re.compile(r"checkpoint-\d+")
_OF_TRAINING = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


def step_of(checkpoint: Path) -> int:
    """The step after which the trainer wrote a checkpoint's folder."""
    return int(checkpoint.name.rsplit("-", 1)[1])


def seal(checkpoint: Path) -> None:
    """Put the files of a checkpoint onto the disk and note their sizes. Raises as `write_atomically`."""
    sizes = {}
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file() and path.name != SEAL and not LEFTOVER.fullmatch(path.name):
            with path.open("rb") as file:
                os.fsync(file.fileno())
                sizes[path.relative_to(checkpoint).as_posix()] = path.stat().st_size
    write_atomically(checkpoint / SEAL, json.dumps({"sizes": sizes}, indent=2) + "\n")


def newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """The whole checkpoint of most steps in `folder`, and what is wrong with those of more steps."""
    problems: list[str] = []
    checkpoints = [path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name) and path.is_dir()]
    for path in sorted(checkpoints, key=step_of, reverse=True):
        problem = why_not_whole(path)
        if problem is None:
            return path, problems
        problems.append(f"{path.name} ({problem})")
    return None, problems


def why_not_whole(checkpoint: Path) -> str | None:
    """What a checkpoint lacks; None for a whole one."""
    try:
        if (checkpoint / SEAL).is_file():
            sizes = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))["sizes"]
            problems = (_other_size(checkpoint / name, size) or _cut(checkpoint / name) for name, size in sizes.items())
            return next(filter(None, problems), None)
        return _unsealed_problem(checkpoint)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{SEAL} cannot be read: {error}"


def rows_of(checkpoint: Path) -> int | None:
    """How many rows metrics.jsonl had when the checkpoint was made; None where it was not counted."""
    state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    rows = (state.get("stateful_callbacks") or {}).get("MetricsToJsonl", {}).get("attributes", {}).get("rows")
    return rows if isinstance(rows, int) else None


def _other_size(path: Path, size: int) -> str | None:
    if not path.is_file():
        return f"{path.name} is missing"
    actual = path.stat().st_size
    return None if actual == size else f"{path.name} has {actual} of {size} bytes"


def _unsealed_problem(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, by its files alone."""
    if not (checkpoint / STATE).is_file():
        return f"{STATE} is missing"  # the trainer writes it last
    files = [path for path in sorted(checkpoint.rglob("*")) if path.is_file()]
    for path in files:
        if problem := _cut(path):
            return problem
    if any(path.parent != checkpoint for path in files):
        return None  # FSDP and DeepSpeed have folders of their own
    names = {re.sub(r"_\d+\.pth$", ".pth", path.name).replace("optimizer.bin", "optimizer.pt") for path in files}
    missing = [name for name in _OF_TRAINING if name not in names]
    if 0 < len(missing) < len(_OF_TRAINING):
        return f"{missing[0]} is missing"
    has_weights = any(path.suffix in (".safetensors", ".bin") for path in files)
    return "the weights are missing" if not missing and not has_weights else None


def _cut(path: Path) -> str | None:
    """Where a file breaks off, by its format. A crashed disk may keep a file's size and lose what it held."""
    problem = None
    if path.suffix == ".safetensors":
        problem = why_cut(path)
    elif path.suffix == ".distcp" and not path.stat().st_size:
        problem = "it is empty"
    elif path.suffix == ".json":
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            problem = str(error)
    elif path.suffix in (".pt", ".pth", ".bin") and not zipfile.is_zipfile(path):
        problem = "no end of the file"  # torch writes archives, whose directory comes last
    return f"{path.name} is cut off: {problem}" if problem else None
